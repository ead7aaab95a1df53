"""The table of layer types: a decorator puts a function into it, the translator looks it up."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.models.neural_network_weights import decode_weights
from pytest_quantguard.runtime.portable.neural_network.network import Blob

LayerFunction = Callable[..., Blob | Sequence[Blob]]
"""Takes the network, the layer and the layer's input blobs; gives the layer's output blobs."""

_FUNCTIONS: dict[str, LayerFunction] = {}


@dataclass(frozen=True)
class Layer:
    """One layer of the specification (`NeuralNetworkLayer`).

    Args:
        model: the model's name, for errors.
        name: the layer's name.
        kind: the specification's oneof name, for instance `convolution`.
        params: the layer's own message, for instance `ConvolutionLayerParams`.
        outputs: how many outputs the layer has.
    """

    model: str
    name: str
    kind: str
    params: Any
    outputs: int

    def unsupported(self, what: str) -> UnsupportedModelError:
        """The error that refuses this layer; `what` names the parameter at fault."""
        return UnsupportedModelError(
            f"{self.model}: layer {self.name!r}: {what} is not supported by the portable engine."
        )

    def weights(
        self, field: str, shape: Sequence[int], *, axis: int = 0, message: Any = None
    ) -> NDArray[np.float32]:
        """Decode the weights in a field of the layer's message, or of another one (`decode_weights`)."""
        name = f"{self.model}: layer {self.name!r}: {field}"
        return decode_weights(getattr(message or self.params, field), shape, axis=axis, name=name)

    def pair(self, values: Sequence[int], default: int) -> tuple[int, int]:
        """A field of length 2 in the order (height, width); the default where it is not set."""
        if not len(values):
            return default, default
        if len(values) != 2:
            raise self.unsupported(f"a parameter of length {len(values)} in place of (height, width)")
        return int(values[0]), int(values[1])


def layer(*kinds: str) -> Callable[[LayerFunction], LayerFunction]:
    """Register a function for layer types, by the specification's oneof names."""

    def register(function: LayerFunction) -> LayerFunction:
        for kind in kinds:
            _FUNCTIONS[kind] = function
        return function

    return register


def layer_function(layer: Layer, inputs: int) -> LayerFunction:
    """The function for a layer with so many inputs.

    Raises:
        UnsupportedModelError: there is none for the layer's type, or it takes another number of inputs.
    """
    function = _FUNCTIONS.get(layer.kind)
    if function is None:
        raise layer.unsupported(f"type {layer.kind!r}")
    try:
        inspect.signature(function).bind(None, layer, *[None] * inputs)
    except TypeError as error:
        raise layer.unsupported(f"type {layer.kind!r} with {inputs} inputs") from error
    return function


def supported_layers() -> tuple[str, ...]:
    """The layer types that have a function, sorted."""
    return tuple(sorted(_FUNCTIONS))
