"""Long short-term memory (LSTM), in one direction or in both."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_quantguard.runtime.portable.clipped_lstm import Activation, LstmWeights, clipped_lstm
from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.neural_network.layers.recurrent import (
    CLIP,
    activation,
    activation_attributes,
    counted,
    input_sequence,
    input_state,
    lengths,
    rank_five_results,
    stacked_gates,
)
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

# The specification's names of the gates in the order of ONNX.
_GATES = ("inputGate", "outputGate", "forgetGate", "blockInput")
_PEEPHOLES = ("inputGate", "outputGate", "forgetGate")


@layer("uniDirectionalLSTM")
def lstm(net: Network, layer: Layer, x: Blob, state: Blob | None = None, cell: Blob | None = None) -> list[Blob]:
    """`UniDirectionalLSTMLayerParams`; outputs are y, the last state and the last cell."""
    params = layer.params
    sequence = input_sequence(net, layer, x, int(params.inputVectorSize), reverse=params.reverseInput)
    states = [[blob] for blob in (state, cell) if blob]
    return _lstm(net, layer, x, sequence, [(params.weightParams, params.activations)], states)


@layer("biDirectionalLSTM")
def bidirectional_lstm(net: Network, layer: Layer, x: Blob, *states: Blob) -> list[Blob]:
    """`BiDirectionalLSTMLayerParams`; outputs are y, then state and cell forwards, then backwards."""
    params = layer.params
    if len(states) not in (0, 4) or len(params.weightParams) != 2:
        raise layer.unsupported(f"{len(states)} states and {len(params.weightParams)} sets of weights")
    activations = (params.activationsForwardLSTM, params.activationsBackwardLSTM)
    directions = list(zip(params.weightParams, activations, strict=True))
    sequence = input_sequence(net, layer, x, int(params.inputVectorSize), reverse=False)
    return _lstm(net, layer, x, sequence, directions, [states[0::2], states[1::2]] if states else [])


def _lstm(
    net: Network,
    layer: Layer,
    x: Blob,
    sequence: str,
    directions: Sequence[tuple[Any, Sequence[Any]]],
    states: Sequence[Sequence[Blob]],
) -> list[Blob]:
    """Weights and activations of each direction; states and cells of each, or none."""
    params, settings = layer.params, layer.params.params
    inputs, outputs = int(params.inputVectorSize), int(params.outputVectorSize)
    weights = [_lstm_weights(layer, message, inputs, outputs) for message, _ in directions]
    given: list[str] = []
    if settings.hasPeepholeVectors or states or _clips_below(settings):
        zeros = np.zeros((len(directions), known(x.shape)[1], outputs), np.float32)
        given = [_joined(net, [input_state(net, state, x, outputs) for state in part]) for part in states]
        given += [net.constant(zeros) for _ in range(2 - len(given))]
    if _clips_below(settings):
        return rank_five_results(net, layer, x, _clipped(net, layer, x, sequence, given, weights, directions))
    arrays = [[each.weights for each in weights], [each.recursion for each in weights]]
    arrays.append([each.both_biases for each in weights])
    values = [net.constant(np.stack(parts), layer.name) for parts in arrays]
    optional = [lengths(net, x), *given] if given else []
    if settings.hasPeepholeVectors:
        optional.append(net.constant(np.stack([each.peepholes for each in weights]), layer.name))
    options = [activation_attributes(layer, activations, 3) for _, activations in directions]
    joined: dict[str, Any] = {
        name: [entry for option in options for entry in option.get(name, [])]
        for name in {**options[0], **options[-1]}
        if name != "clip"
    }
    results = net.nodes(
        "LSTM",
        [sequence, *values, *optional],
        3,
        hidden_size=outputs,
        input_forget=int(settings.coupledInputAndForgetGate),
        clip=CLIP,
        direction="bidirectional" if len(directions) == 2 else "forward",
        **joined,
    )
    return rank_five_results(net, layer, x, results)


def _clips_below(settings: Any) -> bool:
    """Whether the cell that is carried on has a limit of its own.

    onnxruntime keeps what enters an activation within 50, but not the cell. That makes a difference for limits
    below, and for cells that count to above 50, which are not told apart.
    """
    return bool(0 < settings.cellClipThreshold < CLIP)


def _lstm_weights(layer: Layer, message: Any, inputs: int, outputs: int) -> LstmWeights:
    settings = layer.params.params
    weights, recursion, bias = stacked_gates(
        layer, message, _GATES, inputs, outputs, biases=settings.hasBiasVectors
    )
    if settings.forgetBias:
        bias[2 * outputs : 3 * outputs] += 1
    peepholes = np.zeros(3 * outputs, np.float32)
    if settings.hasPeepholeVectors:
        fields = [f"{gate}PeepholeVector" for gate in _PEEPHOLES]
        peepholes = np.concatenate([layer.weights(field, (outputs,), message=message) for field in fields])
    return LstmWeights(weights, recursion, bias[: 4 * outputs], peepholes)


def _clipped(
    net: Network,
    layer: Layer,
    x: Blob,
    sequence: str,
    states: Sequence[str],
    weights: Sequence[LstmWeights],
    directions: Sequence[tuple[Any, Sequence[Any]]],
) -> list[str]:
    """The results of ONNX's `LSTM`, with the cell kept within `cellClipThreshold`."""
    settings, outputs = layer.params.params, int(layer.params.outputVectorSize)
    length, batch = known(x.shape[:2])
    found = []
    for index, (each, (_, messages)) in enumerate(zip(weights, directions, strict=True)):
        state, cell = (net.node("Gather", value, net.constant(index), axis=0) for value in states)
        gate, update, out = (_as_function(layer, message) for message in counted(layer, messages, 3))
        results = clipped_lstm(
            net.graph,
            sequence,
            (state, cell),
            each,
            (gate, update, out),
            float(settings.cellClipThreshold),
            reverse=index == 1,
            coupled=settings.coupledInputAndForgetGate,
        )
        shapes = ((length, batch, outputs), (batch, outputs), (batch, outputs))
        found.append([net.adopt(value, shape) for value, shape in zip(results, shapes, strict=True)])
    return [
        net.node("Concat", *[net.node("Unsqueeze", value, net.constant([axis])) for value in values], axis=axis)
        for values, axis in zip(zip(*found, strict=True), (1, 0, 0), strict=True)
    ]


def _as_function(layer: Layer, message: Any) -> Activation:
    """An activation as nodes, for where ONNX's recurrent operators do not do."""
    name, scale = activation(layer, message)
    alpha, beta = scale or (1.0, 0.0)

    def apply(graph: GraphBuilder, value: str) -> str:
        value = graph.node("Clip", [value, graph.constant(-CLIP), graph.constant(CLIP)])
        if name == "HardSigmoid":
            return graph.node(name, [value], alpha=alpha, beta=beta)
        if name == "Affine":
            return graph.node("Add", [graph.node("Mul", [value, graph.constant(alpha)]), graph.constant(beta)])
        if name == "ScaledTanh":
            inner = graph.node("Tanh", [graph.node("Mul", [value, graph.constant(beta)])])
            return graph.node("Mul", [inner, graph.constant(alpha)])
        return graph.node(name, [value])

    return apply


def _joined(net: Network, states: Sequence[str]) -> str:
    return net.node("Concat", *states, axis=0) if len(states) > 1 else states[0]
