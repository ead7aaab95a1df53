"""Everything about a model file that can be told without running it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_quantguard.inspection.interface import feature_entry
from pytest_quantguard.inspection.structure import leaf_models, structure_entry
from pytest_quantguard.inspection.weights import stored_weights
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.files import ModelFile, read_model_file
from pytest_quantguard.models.functions import function_names, select_function
from pytest_quantguard.runtime.portable.refusals import find_refusals

SCHEMA = 1
"""Raised when a reader of the old entries could misread the new ones."""

SYSTEMS = {
    1: ("11", "10.13"),
    2: ("11.2", "10.13.2"),
    3: ("12", "10.14"),
    4: ("13", "10.15"),
    5: ("14", "11"),
    6: ("15", "12"),
    7: ("16", "13"),
    8: ("17", "14"),
    9: ("18", "15"),
    10: ("26", "26"),
}
"""The oldest iOS and macOS by specification version (Model.proto: `specificationVersion`)."""


def inspect_model(path: str | Path, *, function_name: str | None = None) -> dict[str, Any]:
    """Inspect a `.mlmodel` file or a `.mlpackage` folder.

    Args:
        path: the model.
        function_name: look at this function of a package with several; None for all of them.

    Returns:
        JSON values: `schema`, `name`, `kind`, `specification_version`, `minimum_ios`, `minimum_macos`,
        `size_bytes`, `digest`, `metadata`, `updatable`, `labels` (their number, None for no classifier) and
        `functions`, and then `inputs`, `outputs`, `states` and `structure` of each: a list of one for most models.
        `structure` lists the stages of a pipeline, else the model itself, with counts and `weights`.
        `unsupported` has a sentence for each reason that the portable engine refuses the model.

    Raises:
        ModelFileError: there is no such model or function.
    """
    file = read_model_file(path)
    spec, name = file.spec, file.path.name
    ios, macos = SYSTEMS.get(spec.specificationVersion, (None, None))
    chosen: Sequence[str | None] = [function_name] if function_name else function_names(spec) or (None,)
    functions = [_function(file, function, name) for function in chosen]
    labels = describe(spec).labels
    return {
        "schema": SCHEMA,
        "name": name,
        "kind": spec.WhichOneof("Type"),
        "specification_version": int(spec.specificationVersion),
        "minimum_ios": ios,
        "minimum_macos": macos,
        "size_bytes": file.size_bytes,
        "digest": file.digest,
        "updatable": bool(spec.isUpdatable),
        "labels": len(labels) if labels else None,
        "metadata": _metadata(spec.description.metadata),
        "functions": functions,
        "unsupported": list(dict.fromkeys(reason for entry in functions for reason in entry.pop("unsupported"))),
    }


def _metadata(metadata: Any) -> dict[str, str]:
    """What the file says of itself, without what it leaves empty; coremltools' entries keep their names."""
    found = {
        "description": metadata.shortDescription,
        "author": metadata.author,
        "license": metadata.license,
        "version": metadata.versionString,
        **dict(sorted(metadata.userDefined.items())),
    }
    return {key: value for key, value in found.items() if value}


def _function(file: ModelFile, function_name: str | None, name: str) -> dict[str, Any]:
    spec = select_function(file.spec, function_name, name=name)
    default = file.spec.description.defaultFunctionName
    stages = list(leaf_models(spec))
    return {
        "name": function_name,
        "default": function_name in (None, default),
        "inputs": [feature_entry(feature) for feature in spec.description.input],
        "outputs": [feature_entry(feature) for feature in spec.description.output],
        "states": [feature_entry(feature) for feature in spec.description.state],
        "structure": [_stage(path, stage) for path, stage in stages],
        "unsupported": _refusals(file, spec, stages, name),
    }


def _stage(path: tuple[str, ...], spec: Any) -> dict[str, Any]:
    weights = [asdict(group) for group in stored_weights(spec)]
    return {"stage": "/".join(path) or None, **structure_entry(spec), "weights": weights}


def _refusals(file: ModelFile, spec: Any, stages: list[tuple[tuple[str, ...], Any]], name: str) -> list[str]:
    """Of a pipeline the reasons of each stage, or, where each runs by itself, why they do not run together."""
    if stages[0][0] == ():
        return find_refusals(spec, file.weights_dir, name=name)
    found = []
    for path, stage in stages:
        found += find_refusals(stage, file.weights_dir, name=f"{name}: stage {'/'.join(path)}")
    return found or find_refusals(spec, file.weights_dir, name=name)
