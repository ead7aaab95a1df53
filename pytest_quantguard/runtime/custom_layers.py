"""Functions for the custom layers of neural networks.

The specification of a custom layer holds a class name, parameters and weights; what it computes is code of the
app. Off macOS that code is a Python function registered here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from pytest_quantguard.errors import UnsupportedModelError

CustomLayer = Callable[
    [Sequence[NDArray[Any]], Mapping[str, Any], Sequence[NDArray[Any]]], NDArray[Any] | Sequence[NDArray[Any]]
]
"""Takes inputs, parameters and weights; returns the outputs (see `register_custom_layer`)."""

_FUNCTIONS: dict[str, CustomLayer] = {}


def register_custom_layer(class_name: str, function: CustomLayer) -> None:
    """Make custom layers of a class run in the portable engine (specification: `CustomLayerParams`).

    Register before the model is loaded, for instance in `conftest.py`. A later function replaces an earlier one.

    Args:
        class_name: the layer's `className`, the app's class that conforms to `MLCustomLayer`.
        function: called as `function(inputs, parameters, weights)` in each prediction, from several threads at
            once. `inputs` are float32 arrays, one per input of the layer, in the shape that Apple's framework
            gives: (sequence, batch, channels, height, width) in networks of rank 5, else any. `parameters` are
            numbers, strings and booleans by name. `weights` are vectors, in the file's order: float32, or uint8
            where the file holds raw bytes without a quantization. It returns one array, or one per output of the
            layer; they are taken as float32.

    Raises:
        UnsupportedModelError: the class name is empty or the function is none.
    """
    if not isinstance(class_name, str) or not class_name or not callable(function):
        raise UnsupportedModelError(
            f"register_custom_layer({class_name!r}, {function!r}) takes a class name and a function."
        )
    _FUNCTIONS[class_name] = function


def custom_layer(class_name: str) -> CustomLayer | None:
    """The function registered for a class, if any."""
    return _FUNCTIONS.get(class_name)
