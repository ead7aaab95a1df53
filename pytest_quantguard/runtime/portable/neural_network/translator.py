"""Neural networks (specification: NeuralNetwork.proto) to ONNX."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.description import ArrayFeature, Feature, ImageFeature, ModelDescription
from pytest_quantguard.runtime.portable.neural_network import layers as _register_layers  # noqa: F401
from pytest_quantguard.runtime.portable.neural_network.inputs import input_blob
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape, ShapeError, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer_function
from pytest_quantguard.runtime.portable.translation import Translation

KINDS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
"""The model types that this translator takes."""

Shapes = Mapping[str, Sequence[int]]


def translate(spec: Any, *, name: str, input_shapes: Shapes | None = None) -> Translation:
    """Translate a neural network, a classifier or a regressor for fixed input shapes.

    Args:
        spec: the parsed `Model` message.
        name: what to call the model in errors.
        input_shapes: by input name the shape of the array, or (height, width) of the image, where it is not the
            one that the description states.

    Raises:
        UnsupportedModelError: a layer, or a value of one of its parameters, has no translation; names the layer.
        ModelFileError: weights are missing or do not fit their layer.
    """
    description = describe(spec)
    network = getattr(spec, description.kind)
    net = Network(name)
    shapes = input_shapes or {}
    blobs: dict[str, Blob] = {}
    for feature in description.inputs:
        blobs[feature.name] = input_blob(net, network, feature, shapes.get(feature.name), name)
    for message in network.layers:
        _add_layer(net, message, blobs, name)
    outputs = {
        feature.name: _output(net, network, feature, blobs, name) for feature in _network_outputs(description)
    }
    scores = _scores(net, network, description, blobs, name)
    return Translation(onnx_model=net.graph.build(), inputs=net.inputs, outputs=outputs, scores=scores)


def check_layers(spec: Any, *, name: str) -> None:
    """Refuse a model with a layer type that has no translation, whatever the shapes of its inputs.

    Raises:
        UnsupportedModelError: there is such a layer; names the first.
    """
    for message in getattr(spec, spec.WhichOneof("Type")).layers:
        layer_function(_layer(message, name), len(message.input))


def _layer(message: Any, model: str) -> Layer:
    kind = message.WhichOneof("layer") or "unknown"
    params = getattr(message, kind, None)
    return Layer(model=model, name=message.name, kind=kind, params=params, outputs=len(message.output))


def _add_layer(net: Network, message: Any, blobs: dict[str, Blob], model: str) -> None:
    layer = _layer(message, model)
    function = layer_function(layer, len(message.input))
    missing = [name for name in message.input if name not in blobs]
    if missing:
        raise layer.unsupported(f"input {missing[0]!r}, which no earlier layer produces,")
    try:
        result = function(net, layer, *[blobs[name] for name in message.input])
    except ShapeError as error:
        raise layer.unsupported(str(error)) from error
    except (ValueError, IndexError, ArithmeticError) as error:
        raise layer.unsupported(f"a parameter that does not fit its inputs ({error})") from error
    results = [result] if isinstance(result, Blob) else result
    if len(results) != len(message.output):
        raise layer.unsupported(f"type {layer.kind!r} with {len(message.output)} outputs")
    blobs.update(zip(message.output, results, strict=True))


def _network_outputs(description: ModelDescription) -> list[Feature]:
    """The outputs that the network computes: all but a classifier's label and probabilities."""
    own = (description.label_name, description.probabilities_name)
    return [feature for feature in description.outputs if not description.labels or feature.name not in own]


def _output(net: Network, network: Any, feature: Feature, blobs: dict[str, Blob], model: str) -> str:
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
    the sequence and the batch are more than it holds.
    """
    described = network.arrayInputShapeMapping == 0 and network.imageInputShapeMapping == 0 and feature.shape
    if described and blob.rank == 5 and None not in blob.shape and product(feature.shape) == blob.size:
        return feature.shape
    return blob.shape


def _scores(
    net: Network, network: Any, description: ModelDescription, blobs: dict[str, Blob], model: str
) -> str | None:
    """The probabilities: the tensor that `labelProbabilityLayerName` names, else the last layer's output."""
    if description.labels is None or description.kind != "neuralNetworkClassifier":
        return None
    name = network.labelProbabilityLayerName or network.layers[-1].output[0]
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
