"""From the tensors that the layers compute to the model's outputs."""

from collections.abc import Mapping
from typing import Any

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.models.description import ArrayFeature, Feature, ImageFeature, ModelDescription
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape, ShapeError, product


def output_blobs(network: Any, description: ModelDescription) -> tuple[list[str], str | None]:
    """The names of the tensors that become outputs, and of the one with a classifier's probabilities."""
    return [feature.name for feature in _features(description)], _scores_name(network, description)


def declare_outputs(
    net: Network, network: Any, description: ModelDescription, blobs: Mapping[str, Blob], model: str
) -> tuple[dict[str, str], str | None]:
    """Declare the graph's outputs.

    Args:
        net: takes the outputs.
        network: the `NeuralNetwork` message (or classifier, regressor).
        description: the model's outputs and labels.
        blobs: the tensors by the names in the file.
        model: the model's name, for errors.

    Returns:
        ONNX names by Core ML names, and the ONNX name of a classifier's probabilities.

    Raises:
        UnsupportedModelError: no layer produces an output, or not in its shape.
    """
    outputs = {feature.name: _output(net, network, feature, blobs, model) for feature in _features(description)}
    return outputs, _scores(net, network, description, blobs, model)


def _features(description: ModelDescription) -> list[Feature]:
    """The outputs that the network computes: all but a classifier's label and probabilities."""
    own = (description.label_name, description.probabilities_name)
    return [feature for feature in description.outputs if not description.labels or feature.name not in own]


def _output(net: Network, network: Any, feature: Feature, blobs: Mapping[str, Blob], model: str) -> str:
    blob = blobs.get(feature.name)
    if blob is None:
        raise UnsupportedModelError(f"{model}: no layer produces the output {feature.name!r}; export it again.")
    try:
        if isinstance(feature, ImageFeature):
            return net.graph.output(_image_output(net, feature, blob, model), feature.name, "float32")
        if isinstance(feature, ArrayFeature):
            value = net.reshaped(blob, _array_shape(network, feature, blob))
            return net.graph.output(value, feature.name, "float32")
    except ShapeError as error:
        raise UnsupportedModelError(
            f"{model}: output {feature.name!r}: {error} is not supported by the portable engine."
        ) from error
    return net.graph.output(net.exact(blob), feature.name, "float32")


def _image_output(net: Network, feature: ImageFeature, blob: Blob, model: str) -> str:
    channels = 1 if feature.color.startswith("GRAYSCALE") else 3
    if blob.rank < 2 or product(blob.shape[:-3]) != 1 or (blob.shape[-3] if blob.rank > 2 else 1) != channels:
        raise UnsupportedModelError(
            f"{model}: output {feature.name!r}: an image from a tensor of shape {blob.shape} is not supported by "
            "the portable engine."
        )
    return net.reshaped(blob, (channels, *blob.shape[-2:]))


def _array_shape(network: Any, feature: ArrayFeature, blob: Blob) -> Shape:
    """The shape that `MLModel.predict` gives.

    Networks of rank 5 throughout answer in the described shape, and in rank 5 where none is described or where
    the sequence and the batch are more than it holds. Other networks answer in the described shape where it
    differs in ones only: a scalar is described with another rank than it is computed with, and an image has a
    batch dimension that a network made for arrays does not mention (coremltools' `test_model.py`).
    """
    if not feature.shape or None in blob.shape:
        return blob.shape
    if network.arrayInputShapeMapping == 0 and network.imageInputShapeMapping == 0:
        return feature.shape if blob.rank == 5 and product(feature.shape) == blob.size else blob.shape
    return feature.shape if _without_ones(feature.shape) == _without_ones(blob.shape) else blob.shape


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _scores_name(network: Any, description: ModelDescription) -> str | None:
    """The tensor that `labelProbabilityLayerName` names, else the last layer's output."""
    if description.labels is None or description.kind != "neuralNetworkClassifier":
        return None
    produced = [name for message in network.layers for name in message.output[:1]]
    return str(network.labelProbabilityLayerName or (produced[-1] if produced else "")) or None


def _scores(
    net: Network, network: Any, description: ModelDescription, blobs: Mapping[str, Blob], model: str
) -> str | None:
    name = _scores_name(network, description)
    if name is None or description.labels is None:
        return None
    if name not in blobs:
        raise UnsupportedModelError(
            f"{model}: the probabilities {name!r} are produced by no layer; export the model again."
        )
    blob = blobs[name]
    if None not in blob.shape and blob.size != len(description.labels):
        raise UnsupportedModelError(
            f"{model}: {blob.size} probabilities for {len(description.labels)} labels are not supported by the "
            "portable engine."
        )
    return net.graph.output(blob.value, "scores", "float32")
