"""The weight tensors of a neural network: every `WeightParams` message of every layer."""

from collections.abc import Iterator
from typing import Any

from pytest_quantguard.schemes.tensor import ALREADY_FLOAT16, ALREADY_QUANTIZED, UNKNOWN_LAYER, Tensor


def network_tensors(network: Any) -> list[Tensor]:
    """The tensors of a `NeuralNetwork`, `NeuralNetworkClassifier` or `NeuralNetworkRegressor` message.

    Networks inside loops and branches are included. A tensor is called `<layer>.<field>`.
    """
    found: dict[str, Tensor] = {}
    for layer in network.layers:
        kind = layer.WhichOneof("layer")
        if kind is None:
            continue
        parameters = getattr(layer, kind)
        for name, weights in weight_params(parameters, layer.name):
            while name in found:  # layers may share a name
                name += "'"
            tensor = network_tensor(name, weights, parameters)
            if tensor.weights:
                found[name] = tensor
    return list(found.values())


def weight_params(message: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and message of every `WeightParams` inside a message."""
    if message.DESCRIPTOR.name == "WeightParams":
        yield path, message
        return
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if hasattr(value, "DESCRIPTOR"):
            yield from weight_params(value, f"{path}.{field.name}")
            continue
        for index, part in enumerate(value):
            is_layer = part.DESCRIPTOR.name == "NeuralNetworkLayer"
            yield from weight_params(part, f"{path}.{part.name if is_layer else f'{field.name}[{index}]'}")


def network_tensor(name: str, weights: Any, parameters: Any) -> Tensor:
    """A tensor from its `WeightParams` message and its layer's own message."""
    if count := len(weights.floatValue):
        return Tensor(name, count, 32 * count, "float32", UNKNOWN_LAYER)
    if count := len(weights.float16Value) // 2:
        return Tensor(name, count, 16 * count, "float16", ALREADY_FLOAT16)
    data = weights.rawValue or weights.int8RawValue
    linear, table = weights.quantization.linearQuantization, weights.quantization.lookupTableQuantization
    floats = len(linear.scale) + len(linear.bias) + len(table.floatValue)
    count = _quantized_count(name, data, weights.quantization.numberOfBits or 8, parameters)
    return Tensor(name, count, 8 * len(data) + 32 * floats, "quantized", ALREADY_QUANTIZED)


def _quantized_count(name: str, data: bytes, bits: int, parameters: Any) -> int:
    """The number of packed weights: of a bias what the layer says, else as many as fit (at most 7 too many)."""
    if data and name.endswith(".bias") and "outputChannels" in parameters.DESCRIPTOR.fields_by_name:
        return int(parameters.outputChannels)
    return 8 * len(data) // bits
