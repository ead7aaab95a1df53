"""Recurrent layers: plain, gated (GRU) and long short-term memory (LSTM)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

_CLIP = 50.0
"""Every activation's input is kept within this (specification: `clip()` in the layers' equations)."""

# The specification's names of the gates in the order of ONNX.
_GRU_GATES = ("updateGate", "resetGate", "outputGate")
_LSTM_GATES = ("inputGate", "outputGate", "forgetGate", "blockInput")
_PEEPHOLES = ("inputGate", "outputGate", "forgetGate")

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
    weights = layer.weights("weightMatrix", (1, outputs, inputs))
    recursion = layer.weights("recursionMatrix", (1, outputs, outputs))
    bias = np.zeros((1, 2 * outputs), np.float32)
    if params.hasBiasVector:
        bias[0, :outputs] = layer.weights("biasVector", (outputs,))
    values = [net.constant(array, layer.name) for array in (weights, recursion, bias)]
    options = _activations(layer, [params.activation], 1)
    sequence = _sequence(net, layer, x, inputs, reverse=params.reverseInput)
    states = [_lengths(net, x), _state(net, state, x, outputs)] if state else []
    return _results(
        net, layer, x, net.nodes("RNN", [sequence, *values, *states], 2, hidden_size=outputs, **options)
    )


@layer("gru")
def gated_recurrent_unit(net: Network, layer: Layer, x: Blob, state: Blob | None = None) -> list[Blob]:
    """`GRULayerParams`; outputs are y and the last state."""
    params = layer.params
    inputs, outputs = int(params.inputVectorSize), int(params.outputVectorSize)
    arrays = _stacked(layer, params, _GRU_GATES, inputs, outputs, biases=params.hasBiasVectors)
    values = [net.constant(array[None], layer.name) for array in arrays]
    options = _activations(layer, params.activations, 2)
    sequence = _sequence(net, layer, x, inputs, reverse=params.reverseInput)
    states = [_lengths(net, x), _state(net, state, x, outputs)] if state else []
    return _results(
        net, layer, x, net.nodes("GRU", [sequence, *values, *states], 2, hidden_size=outputs, **options)
    )


@layer("uniDirectionalLSTM")
def lstm(net: Network, layer: Layer, x: Blob, state: Blob | None = None, cell: Blob | None = None) -> list[Blob]:
    """`UniDirectionalLSTMLayerParams`; outputs are y, the last state and the last cell."""
    params = layer.params
    options = _activations(layer, params.activations, 3)
    sequence = _sequence(net, layer, x, int(params.inputVectorSize), reverse=params.reverseInput)
    states = [blob for blob in (state, cell) if blob]
    return _lstm(net, layer, x, sequence, [params.weightParams], [states[:1], states[1:]], options)


@layer("biDirectionalLSTM")
def bidirectional_lstm(net: Network, layer: Layer, x: Blob, *states: Blob) -> list[Blob]:
    """`BiDirectionalLSTMLayerParams`; outputs are y, then state and cell forwards, then backwards."""
    params = layer.params
    if len(states) not in (0, 4) or len(params.weightParams) != 2:
        raise layer.unsupported(f"{len(states)} states and {len(params.weightParams)} sets of weights")
    forward = _activations(layer, params.activationsForwardLSTM, 3)
    backward = _activations(layer, params.activationsBackwardLSTM, 3)
    options: dict[str, Any] = {"clip": _CLIP, "direction": "bidirectional"}
    for name in {**forward, **backward}.keys() - options.keys():
        options[name] = [*forward.get(name, []), *backward.get(name, [])]
    sequence = _sequence(net, layer, x, int(params.inputVectorSize), reverse=False)
    pairs = [states[0::2], states[1::2]]
    return _lstm(
        net,
        layer,
        x,
        sequence,
        params.weightParams,
        pairs,
        {**options, "clip": _CLIP, "direction": "bidirectional"},
    )


def _lstm(
    net: Network,
    layer: Layer,
    x: Blob,
    sequence: str,
    weights: Sequence[Any],
    states: Sequence[Sequence[Blob]],
    options: dict[str, Any],
) -> list[Blob]:
    params, settings = layer.params, layer.params.params
    inputs, outputs = int(params.inputVectorSize), int(params.outputVectorSize)
    # onnxruntime keeps what enters an activation within 50, but not the cell that is carried on. That makes a
    # difference only for limits below, and for cells that count to above 50.
    if 0 < settings.cellClipThreshold < _CLIP:
        raise layer.unsupported(f"a cellClipThreshold of {settings.cellClipThreshold}")
    directions = [
        _stacked(layer, message, _LSTM_GATES, inputs, outputs, biases=settings.hasBiasVectors)
        for message in weights
    ]
    if settings.forgetBias:
        for _, _, bias in directions:
            bias[2 * outputs : 3 * outputs] += 1
    values = [net.constant(np.stack(arrays), layer.name) for arrays in zip(*directions, strict=True)]
    optional: list[str] = []
    if settings.hasPeepholeVectors or all(states):
        zeros = np.zeros((len(weights), known(x.shape)[1], outputs), np.float32)
        given = [
            _joined(net, [_state(net, state, x, outputs) for state in part]) if part else net.constant(zeros)
            for part in states
        ]
        optional = [_lengths(net, x), *given]
    if settings.hasPeepholeVectors:
        vectors = [
            np.concatenate(
                [layer.weights(f"{gate}PeepholeVector", (outputs,), message=message) for gate in _PEEPHOLES]
            )
            for message in weights
        ]
        optional.append(net.constant(np.stack(vectors), layer.name))
    results = net.nodes(
        "LSTM",
        [sequence, *values, *optional],
        3,
        hidden_size=outputs,
        input_forget=int(settings.coupledInputAndForgetGate),
        **options,
    )
    return _results(net, layer, x, results)


def _stacked(
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


def _activations(layer: Layer, messages: Sequence[Any], number: int) -> dict[str, Any]:
    if len(messages) != number:
        raise layer.unsupported(f"{len(messages)} activations in place of {number}")
    names, alphas, betas = [], [], []
    for message in messages:
        kind = message.WhichOneof("NonlinearityType")
        if kind not in _ACTIVATIONS:
            raise layer.unsupported(f"activation {kind!r}")
        name, defaults = _ACTIVATIONS[kind]
        names.append(name)
        if defaults:
            own = getattr(message, kind)
            alpha, beta = (own.alpha, own.beta) if own.alpha or own.beta else defaults
            alphas.append(float(alpha))
            betas.append(float(beta))
    options: dict[str, Any] = {"activations": names, "clip": _CLIP}
    return {**options, "activation_alpha": alphas, "activation_beta": betas} if alphas else options


def _sequence(net: Network, layer: Layer, x: Blob, inputs: int, *, reverse: bool) -> str:
    """The input, [sequence, batch, inputs, 1, 1], as rank 3; reversed if the layer reads it from the end."""
    if x.rank != 5 or x.shape[2:] != (inputs, 1, 1):
        raise layer.unsupported(f"an input of shape {x.shape} for vectors of {inputs}")
    value = net.reshaped(x, x.shape[:3])
    if not reverse:
        return value
    # The answers stay in the order of processing, last first.
    minus = net.constant([-1])
    return net.node("Slice", value, minus, net.constant([-(2**62)]), net.constant([0]), minus)


def _state(net: Network, state: Blob, x: Blob, outputs: int) -> str:
    return net.reshaped(state, (1, x.shape[1], outputs))


def _joined(net: Network, states: Sequence[str]) -> str:
    return net.node("Concat", *states, axis=0) if len(states) > 1 else states[0]


def _lengths(net: Network, x: Blob) -> str:
    """The lengths of all sequences of the batch: they are equal."""
    length, batch = known(x.shape[:2])
    return net.constant(np.full(batch, length, np.int32))


def _results(net: Network, layer: Layer, x: Blob, results: Sequence[str]) -> list[Blob]:
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
