"""A coremltools model as bytes: its size, its digest, and writing it to disk."""

import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.files import measure, package_parts
from pytest_quantguard.quiet import import_coremltools, quiet

FILE_SUFFIX = ".mlmodel"
PACKAGE_SUFFIX = ".mlpackage"


def serialize(mlmodel: Any, note: str = "") -> tuple[int, str]:
    """Bytes and SHA-256 digest of a coremltools `MLModel`, as `read_model_file` gives them after `save_model`.

    `note` is what `save_model` is to add. The specification is serialized with sorted maps; `MLModel.save` writes
    them in an order that changes from run to run, which alters the digest but not the size.
    """
    spec = _specification(mlmodel, note).SerializeToString(deterministic=True)
    return measure(spec, Path(mlmodel.weights_dir) if mlmodel.weights_dir else None)


def save_model(mlmodel: Any, path: str | Path, *, overwrite: bool = False, note: str = "") -> Path:
    """Write a coremltools `MLModel` to a `.mlmodel` file or a `.mlpackage` folder and return its path.

    Equal models give equal bytes. The model is written under a temporary name beside `path` and then renamed, so
    that no half-written model is left.

    Args:
        mlmodel: the model; it stays as it is.
        path: where to.
        overwrite: whether to replace a model that is there.
        note: a sentence to end the file's short description (`Metadata.shortDescription`) with.

    Raises:
        ModelFileError: the path exists and `overwrite` is false, has the wrong suffix, or cannot be written.
    """
    path = Path(path)
    check_target(mlmodel, path, overwrite=overwrite)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            written = Path(folder) / path.name
            if mlmodel.is_package:
                _write_package(mlmodel, note, written)
            else:
                written.write_bytes(_specification(mlmodel, note).SerializeToString(deterministic=True))
            if path.is_dir():
                path.rename(Path(folder) / "replaced")
            written.replace(path)
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be written ({error.strerror or error}); choose a folder you may write to."
        ) from error
    return path


def check_target(mlmodel: Any, path: Path, *, overwrite: bool = False) -> None:
    """Raise the ModelFileError of `save_model` before there is anything to save."""
    suffix = PACKAGE_SUFFIX if mlmodel.is_package else FILE_SUFFIX
    if path.suffix != suffix:
        raise ModelFileError(f"{path} must end in {suffix} for this kind of model; rename it.")
    if not path.exists():
        return
    if not overwrite:
        raise ModelFileError(f"{path} exists already; choose another path or pass overwrite=True.")
    if (suffix == PACKAGE_SUFFIX) != path.is_dir() or (path.is_dir() and not (path / "Manifest.json").is_file()):
        raise ModelFileError(f"{path} exists and is no {suffix} model, so it is not overwritten; move it away.")


def _specification(mlmodel: Any, note: str) -> Any:
    """A copy of the model's specification with the note."""
    spec = mlmodel.get_spec()
    if note:
        metadata = spec.description.metadata
        metadata.shortDescription = f"{metadata.shortDescription} {note}".strip()
    return spec


def _write_package(mlmodel: Any, note: str, path: Path) -> None:
    coremltools = import_coremltools()
    spec = _specification(mlmodel, note)
    with quiet(), tempfile.TemporaryDirectory() as empty:
        # coremltools wants a weights folder for every ML program, even for one without weights.
        weights_dir = mlmodel.weights_dir or (empty if spec.WhichOneof("Type") == "mlProgram" else None)
        coremltools.models.utils.save_spec(spec, str(path), weights_dir=weights_dir)
    spec_path, _ = package_parts(path)
    spec_path.write_bytes(spec.SerializeToString(deterministic=True))
    _fix_identifiers(path / "Manifest.json")


def _fix_identifiers(manifest_path: Path) -> None:
    """Replace the random identifiers of a package's parts by ones that follow from the parts' paths."""
    text = manifest_path.read_text(encoding="utf-8")
    for identifier, entry in json.loads(text)["itemInfoEntries"].items():
        text = text.replace(identifier, str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])))
    # Sorted, because the order was that of the random identifiers.
    manifest_path.write_text(json.dumps(json.loads(text), indent=4, sort_keys=True) + "\n", encoding="utf-8")
