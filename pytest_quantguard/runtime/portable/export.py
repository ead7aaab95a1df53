"""Writing a Core ML model as an ONNX file that stands on its own.

The portable engine's graph leaves some work to the engine: the label of a classifier, and the types that Core ML
declares. Here the graph gets nodes for both, the names of the model's inputs and outputs, and documentation.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.description import ArrayFeature, Feature, ImageFeature, ModelDescription
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.models.functions import select_function
from pytest_quantguard.runtime.portable.engine import ML_PROGRAM, NEURAL_NETWORKS
from pytest_quantguard.runtime.portable.feeds import default_value
from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES
from pytest_quantguard.runtime.portable.graph_edits import GraphEdits
from pytest_quantguard.runtime.portable.shapes import allowed_shapes
from pytest_quantguard.runtime.portable.translation import Translation

MAX_BYTES = 2**31 - 1
"""What one protobuf message may take."""

FORMAT_DOCUMENTATION = {"RGB": "Rgb8", "BGR": "Bgr8", "GRAYSCALE": "Gray8"}
"""ONNX's names of pixel formats (docs/MetadataProps.md, `Image.BitmapPixelFormat`); half floats have none."""


def export_onnx(
    path: str | Path,
    target: str | Path,
    *,
    function_name: str | None = None,
    precision: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Write a neural network or an ML program as an ONNX file and return its path.

    The file is written under a temporary name and then renamed, so that no half-written file is left.

    Args:
        path: the `.mlmodel` file or the `.mlpackage` folder.
        target: the file to write.
        function_name: which function of a package with several; None for the default one.
        precision: one of `runtime.PRECISIONS`: whether float16 tensors of an ML program are rounded to float16.
        overwrite: whether to replace an existing file.

    Raises:
        UnsupportedModelError: the model is no single graph, or larger than ONNX files can be.
        ModelFileError: the model is damaged, or the file exists or cannot be written.
    """
    file = read_model_file(path)
    target = Path(target)
    with _writing(target):
        if target.is_dir() or (target.exists() and not overwrite):
            raise ModelFileError(f"{target} exists already; choose another path or allow to overwrite it.")
        if target.exists() and target.samefile(file.path):
            raise ModelFileError(f"{target} is the model itself; choose another path for the ONNX file.")
    spec = select_function(file.spec, function_name, name=file.path.name)
    model = to_onnx(spec, file.weights_dir, name=file.path.name, precision=precision)
    with _writing(target), tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        written = Path(folder) / target.name
        written.write_bytes(model.SerializeToString(deterministic=True))
        written.replace(target)
    return target


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn errors of the file system into a ModelFileError that names the file."""
    try:
        yield
    except OSError as error:
        raise ModelFileError(
            f"{target} cannot be written ({error.strerror or error}); choose a folder you may write to."
        ) from error


def to_onnx(spec: Any, weights_dir: Path | None, *, name: str, precision: str = "float32") -> Any:
    """A model as an ONNX `ModelProto` that passes `onnx.checker` with `full_check`.

    Args:
        spec: the parsed `Model` message, of one function.
        weights_dir: the folder of an ML program's weight files.
        name: what to call the model in errors.
        precision: one of `runtime.PRECISIONS`.

    Raises:
        UnsupportedModelError: the model is no single graph, or too large.
        ModelFileError: the model is damaged.
    """
    import onnx

    description = describe(spec)
    translation = _translate(spec, weights_dir, description, name, precision)
    if len(translation.onnx_model) > MAX_BYTES:
        raise _too_large(name)
    model = onnx.ModelProto.FromString(translation.onnx_model)
    edits = GraphEdits(model.graph)
    # An input that a program does not declare is ignored, as in predictions.
    for feature in description.inputs:
        if feature.name in translation.inputs:
            _input(edits, feature, translation.inputs[feature.name])
    for message in spec.description.input:
        if (
            message.name in translation.inputs
            and message.type.isOptional
            and message.type.WhichOneof("Type") == "multiArrayType"
        ):
            edits.default(message.name, np.full(allowed_shapes(message).default, default_value(message)))
    for feature in description.outputs:
        if feature.name in translation.outputs:
            _output(edits, feature, translation.outputs[feature.name])
    if translation.scores:
        _classifier(edits, description, translation.scores)
    for state in translation.states.values():
        for value in (state.read, state.written):
            edits.document(value, "a state: feed the output back into the input; all zeros at first")
    edits.finish()
    _document(model, spec, description)
    if model.ByteSize() > MAX_BYTES:
        raise _too_large(name)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    del model.graph.value_info[:]
    _described_shapes(model, description)
    onnx.checker.check_model(model, full_check=True)
    return model


def _translate(
    spec: Any, weights_dir: Path | None, description: ModelDescription, name: str, precision: str
) -> Translation:
    from pytest_quantguard.runtime.portable.ml_program import translator as programs
    from pytest_quantguard.runtime.portable.neural_network import translator as networks

    if description.kind in NEURAL_NETWORKS:
        translation = networks.translate(spec, name=name)
    elif description.kind == ML_PROGRAM:
        try:
            translation = programs.translate(spec, weights_dir, precision=precision)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{name}: {error}") from error
    else:
        raise UnsupportedModelError(
            f"{name} is a model of type {description.kind!r}, which is not computed as one ONNX graph; only "
            "neural networks and ML programs can be exported."
        )
    if translation.stepwise:
        raise UnsupportedModelError(
            f"{name} decides by its input values what it computes (control flow, or layers computed with numpy), "
            "so it is no single ONNX graph and cannot be exported."
        )
    return translation


def _too_large(name: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{name} takes more than 2 GB with float32 weights, which one ONNX file cannot hold; run it with "
        "pytest-quantguard itself."
    )


def _input(edits: GraphEdits, feature: Feature, value: str) -> None:
    """Give a graph input the model's name and declared type; images stay float32."""
    edits.rename(value, feature.name)
    if isinstance(feature, ImageFeature):
        edits.document(feature.name, _image_text(feature, "(batch, channels, height, width)"), image=True)
    elif isinstance(feature, ArrayFeature):
        edits.cast_input(feature.name, ELEMENT_TYPES[feature.dtype])


def _output(edits: GraphEdits, feature: Feature, value: str) -> None:
    edits.rename(value, feature.name)
    if isinstance(feature, ImageFeature):
        text = _image_text(feature, "(channels, height, width)") + "; to be rounded and cut to that range"
        edits.document(feature.name, text, image=True)
    elif isinstance(feature, ArrayFeature):
        edits.cast_output(feature.name, ELEMENT_TYPES[feature.dtype])


def _image_text(feature: ImageFeature, layout: str) -> str:
    channels = "gray" if feature.color.startswith("GRAYSCALE") else f"{feature.color} channels"
    return f"an image of {feature.width} x {feature.height} (width x height) as {layout}: {channels}, 0 to 255"


def _classifier(edits: GraphEdits, description: ModelDescription, scores: str) -> None:
    """The label as a tensor of one element, and the probabilities in the order of the labels.

    Core ML's dictionary of probabilities has no counterpart among ONNX's tensors.
    """
    labels = description.labels or ()
    flat = edits.node("Reshape", [scores, edits.constant(np.array([-1]), "flat_shape")], "flat_scores")
    edits.remove_output(scores)
    if description.label_name:
        best = edits.node("ArgMax", [flat], "best", axis=0, keepdims=1)
        table = edits.constant(np.array(labels, object if isinstance(labels[0], str) else np.int64), "labels")
        edits.add_output(description.label_name, "Gather", [table, best], table)
        edits.document(description.label_name, "the label with the highest probability")
    if description.probabilities_name:
        edits.add_output(description.probabilities_name, "Identity", [flat], None)
        edits.document(
            description.probabilities_name, "probabilities in the order of the metadata's coreml.labels"
        )


def _document(model: Any, spec: Any, description: ModelDescription) -> None:
    """Producer, description and metadata of the file (ONNX: docs/MetadataProps.md)."""
    import onnx

    from pytest_quantguard import __version__

    metadata = spec.description.metadata
    model.producer_name, model.producer_version = "pytest-quantguard", __version__
    model.graph.name = "coreml"
    model.doc_string = metadata.shortDescription
    entries = {
        "coreml.type": description.kind,
        "coreml.specification_version": str(description.specification_version),
        "model_author": metadata.author,
        "model_license": metadata.license,
        "coreml.version": metadata.versionString,
        "coreml.labels": json.dumps(description.labels) if description.labels else "",
        **{f"coreml.metadata.{key}": value for key, value in sorted(metadata.userDefined.items())},
    }
    images = description.image_inputs
    if len(images) == 1 and images[0].color in FORMAT_DOCUMENTATION:
        entries["Image.BitmapPixelFormat"] = FORMAT_DOCUMENTATION[images[0].color]
        entries["Image.ColorSpaceGamma"] = "SRGB"
        entries["Image.NominalPixelRange"] = "NominalRange_0_255"
    for feature in images:
        entries[f"coreml.input.{feature.name}"] = _image_text(feature, "float32 (batch, channels, height, width)")
    onnx.helper.set_model_props(model, {key: value for key, value in entries.items() if value})


def _described_shapes(model: Any, description: ModelDescription) -> None:
    """Give outputs whose shape is not inferred the one that the file describes."""
    described: dict[str, Iterable[int]] = {
        feature.name: feature.shape for feature in description.outputs if isinstance(feature, ArrayFeature)
    }
    for output in model.graph.output:
        tensor = output.type.tensor_type
        if not tensor.HasField("shape") and described.get(output.name):
            for size in described[output.name]:
                tensor.shape.dim.add(dim_value=size)
