"""Recurrent layers: plain and gated (GRU), and what all recurrent layers share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

CLIP = 50.0
"""Every activation's input is kept within this (specification: `clip()` in the layers' equations)."""

# The specification's names of the gates in the order of ONNX.
_GRU_GATES = ("updateGate", "resetGate", "outputGate")

# ONNX's name of an activation; alpha and beta where the file does not set them, which is what coremltools writes
# (its tests of recurrent layers say which values Apple's engine takes then).
_ACTIVATIONS: dict[str, tuple[str, tuple[float, float] | None]] = {
    "linear": ("Affine", (1.0, 0.0)),
    "sigmoid": ("Sigmoid", None),
    "tanh": ("Tanh", None),
    "ReLU": ("Relu", None),
    "scaledTanh": ("ScaledTanh", (1.0, 1.0)),
    "sigmoidHard": ("HardSigmoid", (0.2, 0.5)),
}


@layer("simpleRecurrent")
def simple_recurrent(net: Network, layer: Layer, x: Blob, state: Blob | None = None) -> list[Blob]:
    """`SimpleRecurrentLayerParams`; outputs are y and the last state."""
    params = layer.params
    inputs, outputs = int(params.inputVectorSize), int(params.outputVectorSize)
    weights = layer.weights("weightMatrix", (outputs, inputs))[None]
    recursion = layer.weights("recursionMatrix", (outputs, outputs))[None]
    bias = np.zeros((1, 2 * outputs), np.float32)
    if params.hasBiasVector:
        bias[0, :outputs] = layer.weights("biasVector", (outputs,))
    values = [net.constant(array, layer.name) for array in (weights, recursion, bias)]
    options = activation_attributes(layer, [params.activation], 1)
    sequence = input_sequence(net, layer, x, inputs, reverse=params.reverseInput)
    states = [lengths(net, x), input_state(net, state, x, outputs)] if state else []
    return rank_five_results(
        net, layer, x, net.nodes("RNN", [sequence, *values, *states], 2, hidden_size=outputs, **options)
    )


@layer("gru")
def gated_recurrent_unit(net: Network, layer: Layer, x: Blob, state: Blob | None = None) -> list[Blob]:
    """`GRULayerParams`; outputs are y and the last state."""
    params = layer.params
    inputs, outputs = int(params.inputVectorSize), int(params.outputVectorSize)
    arrays = stacked_gates(layer, params, _GRU_GATES, inputs, outputs, biases=params.hasBiasVectors)
    values = [net.constant(array[None], layer.name) for array in arrays]
    options = activation_attributes(layer, params.activations, 2)
    sequence = input_sequence(net, layer, x, inputs, reverse=params.reverseInput)
    states = [lengths(net, x), input_state(net, state, x, outputs)] if state else []
    return rank_five_results(
        net, layer, x, net.nodes("GRU", [sequence, *values, *states], 2, hidden_size=outputs, **options)
    )


def stacked_gates(
    layer: Layer, message: Any, gates: Sequence[str], inputs: int, outputs: int, *, biases: bool
) -> list[NDArray[np.float32]]:
    """Weights, recursion weights and biases of all gates; ONNX's second half of the biases is 0."""
    weights = [layer.weights(f"{gate}WeightMatrix", (outputs, inputs), message=message) for gate in gates]
    recursion = [layer.weights(f"{gate}RecursionMatrix", (outputs, outputs), message=message) for gate in gates]
    bias = np.zeros(2 * len(gates) * outputs, np.float32)
    if biases:
        vectors = [layer.weights(f"{gate}BiasVector", (outputs,), message=message) for gate in gates]
        bias[: len(gates) * outputs] = np.concatenate(vectors)
    return [np.concatenate(weights), np.concatenate(recursion), bias]


def activation_attributes(layer: Layer, messages: Sequence[Any], number: int) -> dict[str, Any]:
    """Attributes of ONNX's recurrent operators."""
    found = [activation(layer, message) for message in counted(layer, messages, number)]
    scales = [scale for _, scale in found if scale]
    options: dict[str, Any] = {"activations": [name for name, _ in found], "clip": CLIP}
    if scales:
        options |= {
            "activation_alpha": [alpha for alpha, _ in scales],
            "activation_beta": [beta for _, beta in scales],
        }
    return options


def counted(layer: Layer, messages: Sequence[Any], number: int) -> Sequence[Any]:
    if len(messages) != number:
        raise layer.unsupported(f"{len(messages)} activations in place of {number}")
    return messages


def activation(layer: Layer, message: Any) -> tuple[str, tuple[float, float] | None]:
    """ONNX's name of an activation, and its alpha and beta if it has them."""
    kind = message.WhichOneof("NonlinearityType")
    if kind not in _ACTIVATIONS:
        raise layer.unsupported(f"activation {kind!r}")
    name, defaults = _ACTIVATIONS[kind]
    if defaults is None:
        return name, None
    own = getattr(message, kind)
    return name, (float(own.alpha), float(own.beta)) if own.alpha or own.beta else defaults


def input_sequence(net: Network, layer: Layer, x: Blob, inputs: int, *, reverse: bool) -> str:
    """The input, [sequence, batch, inputs, 1, 1], as rank 3; reversed if the layer reads it from the end."""
    if x.rank != 5 or x.shape[2:] != (inputs, 1, 1):
        raise layer.unsupported(f"an input of shape {x.shape} for vectors of {inputs}")
    value = net.reshaped(x, x.shape[:3])
    if not reverse:
        return value
    # The answers stay in the order of processing, last first.
    minus = net.constant([-1])
    return net.node("Slice", value, minus, net.constant([-(2**62)]), net.constant([0]), minus)


def input_state(net: Network, state: Blob, x: Blob, outputs: int) -> str:
    """A state to start with as (1, batch, outputs).

    Of a state for a larger batch the first rows count: coremltools' converter makes one as large as the longest
    sequence for PyTorch's packed sequences, and its tests expect that to run.
    """
    shape = (1, *known(x.shape[1:2]), outputs)
    if None not in state.shape and state.size == product(shape):
        return net.reshaped(state, shape)
    flat = net.node("Reshape", net.exact(state), net.constant([-1]))
    first = net.node("Slice", flat, net.constant([0]), net.constant([product(shape)]))
    return net.node("Reshape", first, net.constant(shape))


def lengths(net: Network, x: Blob) -> str:
    """The lengths of all sequences of the batch: they are equal."""
    length, batch = known(x.shape[:2])
    return net.constant(np.full(batch, length, np.int32))


def rank_five_results(net: Network, layer: Layer, x: Blob, results: Sequence[str]) -> list[Blob]:
    """From ONNX's [sequence, directions, batch, outputs] and [directions, batch, outputs] to rank 5."""
    settings = layer.params if layer.kind in ("simpleRecurrent", "gru") else layer.params.params
    length, batch = known(x.shape[:2])
    every, *last = results
    directions, _, outputs = known(net.shape(last[0]))
    width = directions * outputs
    if settings.sequenceOutput:
        value = net.node("Transpose", every, perm=[0, 2, 1, 3])
        blobs = [net.blob(value, (length, batch, width, 1, 1))]
    else:
        value = net.node("Transpose", last[0], perm=[1, 0, 2])
        blobs = [net.blob(value, (1, batch, width, 1, 1))]
    shape = (1, batch, outputs, 1, 1)
    if directions == 1:
        blobs += [net.blob(value, shape) for value in last]
    else:
        split = [net.nodes("Split", [value], 2, axis=0, num_outputs=2) for value in last]
        blobs += [net.blob(value, shape) for pair in zip(*split, strict=True) for value in pair]
    return blobs[: layer.outputs]
