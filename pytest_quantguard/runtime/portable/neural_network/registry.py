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

StepFunction = Callable[..., Sequence[NDArray[Any]]]
"""Takes the layer and its input arrays; gives its output arrays."""

_STEPS: dict[str, StepFunction] = {}

CONTROL_FLOW = ("branch", "loop", "loopBreak", "loopContinue")
"""The layer types that decide which layers are computed; `stepwise.py` runs them."""


class OpenShapeError(UnsupportedModelError):
    """A layer has to know the shape of an input that depends on the values of the model's inputs."""


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


def step_layer(*kinds: str) -> Callable[[StepFunction], StepFunction]:
    """Register a function that computes layer types with numpy, as a step between two ONNX graphs."""

    def register(function: StepFunction) -> StepFunction:
        for kind in kinds:
            _STEPS[kind] = function
        return function

    return register


def read_layer(message: Any, model: str) -> Layer:
    """A layer from its `NeuralNetworkLayer` message."""
    kind = message.WhichOneof("layer") or "unknown"
    params = getattr(message, kind, None)
    return Layer(model=model, name=message.name, kind=kind, params=params, outputs=len(message.output))


def layer_function(layer: Layer, inputs: int) -> LayerFunction:
    """The function for a layer with so many inputs.

    Raises:
        UnsupportedModelError: there is none for the layer's type, or it takes another number of inputs.
    """
    return _checked(layer, _FUNCTIONS.get(layer.kind), inputs, before=2)


def step_function(layer: Layer, inputs: int) -> StepFunction:
    """The function for a layer that is computed with numpy; raises what `layer_function` raises."""
    return _checked(layer, _STEPS.get(layer.kind), inputs, before=1)


def is_step(kind: str) -> bool:
    """Whether a layer type is computed with numpy."""
    return kind in _STEPS


def _checked(layer: Layer, function: Callable[..., Any] | None, inputs: int, *, before: int) -> Callable[..., Any]:
    """The function, if it takes so many inputs behind its first parameters."""
    if function is None:
        raise layer.unsupported(f"type {layer.kind!r}")
    try:
        inspect.signature(function).bind(*[None] * (before + inputs))
    except TypeError as error:
        raise layer.unsupported(f"type {layer.kind!r} with {inputs} inputs") from error
    return function


def supported_layers() -> tuple[str, ...]:
    """The layer types that run, sorted."""
    return tuple(sorted({*_FUNCTIONS, *_STEPS, *CONTROL_FLOW}))
