"""Adding a layer of the file to the network under translation."""

from collections.abc import Sequence
from typing import Any

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, ShapeError
from pytest_quantguard.runtime.portable.neural_network.registry import (
    Layer,
    OpenShapeError,
    layer_function,
    read_layer,
)


def add_layer(net: Network, message: Any, blobs: dict[str, Blob], model: str) -> None:
    """Add the nodes of a layer; its outputs join the blobs.

    Args:
        net: takes the nodes.
        message: the `NeuralNetworkLayer`.
        blobs: the tensors so far, by the names in the file.
        model: the model's name, for errors.

    Raises:
        UnsupportedModelError: the layer has no translation; names it.
        OpenShapeError: it may have one once the shapes of its inputs are known.
    """
    layer = read_layer(message, model)
    missing = [name for name in message.input if name not in blobs]
    if missing:
        raise layer.unsupported(f"input {missing[0]!r}, which no earlier layer produces,")
    inputs = [blobs[name] for name in message.input]
    try:
        results = _results(net, layer, inputs)
    except UnsupportedModelError as error:
        if any(None in blob.shape for blob in inputs):
            raise OpenShapeError(str(error)) from error
        raise
    blobs.update(zip(message.output, results, strict=True))


def _results(net: Network, layer: Layer, inputs: Sequence[Blob]) -> Sequence[Blob]:
    function = layer_function(layer, len(inputs))
    try:
        result = function(net, layer, *inputs)
    except ShapeError as error:
        raise layer.unsupported(str(error)) from error
    except (ValueError, IndexError, ArithmeticError) as error:
        raise layer.unsupported(f"a parameter that does not fit its inputs ({error})") from error
    results = [result] if isinstance(result, Blob) else result
    if len(results) != layer.outputs:
        raise layer.unsupported(f"type {layer.kind!r} with {layer.outputs} outputs")
    return results
