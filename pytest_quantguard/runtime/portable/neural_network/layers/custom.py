"""Custom layers: functions that were registered with `register_custom_layer`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.models.neural_network_weights import decode_weights
from pytest_quantguard.runtime.custom_layers import custom_layer
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, step_layer


@step_layer("custom")
def custom(layer: Layer, *inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
    """`CustomLayerParams`."""
    params = layer.params
    function = custom_layer(params.className)
    assert function, "models with classes that are not registered are refused when they are loaded"
    parameters = {name: getattr(value, value.WhichOneof("value")) for name, value in params.parameters.items()}
    weights = [_vector(layer, message) for message in params.weights]
    result = function([value.copy() for value in inputs], parameters, weights)
    outputs = [result] if isinstance(result, np.ndarray) else list(result)
    return [np.ascontiguousarray(np.atleast_1d(output), np.float32) for output in outputs]


def _vector(layer: Layer, message: Any) -> NDArray[Any]:
    """Weights whose shape only the function knows."""
    bits = message.quantization.numberOfBits
    if message.rawValue and not bits:
        return np.frombuffer(message.rawValue, np.uint8)
    length = (
        len(message.floatValue)
        or len(message.float16Value) // 2
        or len(message.int8RawValue)
        or (len(message.rawValue) * 8 // bits if bits else 0)
    )
    name = f"{layer.model}: layer {layer.name!r}: weights"
    return decode_weights(message, (length,), name=name)
