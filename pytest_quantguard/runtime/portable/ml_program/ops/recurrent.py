"""Recurrent layers (MIL family `recurrent`): plain, gated (GRU) and long short-term memory (LSTM).

Sequences are (steps, batch, features), states (batch, directions * hidden size).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.clipped_lstm import LstmWeights, clipped_lstm
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

# Where ONNX's gates stand in MIL's order. LSTM: input, forget, output, cell in MIL; input, output, forget, cell in
# ONNX. GRU: reset, output, update in MIL; update, reset, output in ONNX.
LSTM_GATES = (0, 2, 1, 3)
PEEPHOLES = (0, 2, 1)
GRU_GATES = (2, 0, 1)

# coremltools' own tests say that `scaled_tanh` scales by 1 and that `hard_sigmoid` has 0.2 and 0.5, as in ONNX.
ACTIVATIONS = {
    "hard_sigmoid": "HardSigmoid",
    "sigmoid_hard": "HardSigmoid",
    "linear": "Identity",
    "relu": "Relu",
    "scaled_tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
}
# Inside of ONNX's recurrent operators the identity is `Affine` with alpha 1 and beta 0.
ALPHA_AND_BETA = {"HardSigmoid": (0.2, 0.5), "Affine": (1.0, 0.0)}


@operation("rnn")
def rnn(op: MilOperation) -> list[str]:
    """h = activation(W x + R h + b)"""
    activation = _activation(op, "activation", "tanh")
    weights, recursion = _matrix(op, "weight_ih", (0,)), _matrix(op, "weight_hh", (0,))
    hidden = recursion.shape[1]
    bias = np.concatenate([_vector(op, "bias", (0,), hidden), np.zeros(hidden, np.float32)])
    arrays = [op.array([array], "float32") for array in (weights, recursion, bias)]
    inputs = [_sequence(op), *arrays, "", _state(op, "initial_h", 1, hidden)]
    return _results(op, op.nodes("RNN", inputs, 2, hidden_size=hidden, **_attributes([activation])), 1, hidden)


@operation("gru")
def gru(op: MilOperation) -> list[str]:
    """h = (1 - z) o + z h, with r, z = recurrent_activation(W x + R h + b) and o from x and r

    The output gate o is activation(W x + R (r h) + b), as coremltools' tests compute it; with `reset_after`
    (iOS 18) it is activation(W x + input_bias + r (R h + bias)).
    """
    activations = [_activation(op, "recurrent_activation", "sigmoid"), _activation(op, "activation", "tanh")]
    weights, recursion = _matrix(op, "weight_ih", GRU_GATES), _matrix(op, "weight_hh", GRU_GATES)
    hidden = recursion.shape[1]
    bias = np.concatenate([_vector(op, name, GRU_GATES, hidden) for name in ("input_bias", "bias")])
    arrays = [op.array([array], "float32") for array in (weights, recursion, bias)]
    inputs = [_sequence(op), *arrays, "", _state(op, "initial_h", 1, hidden)]
    attributes = {**_attributes(activations), "linear_before_reset": int(op.flag("reset_after"))}
    return _results(op, op.nodes("GRU", inputs, 2, hidden_size=hidden, **attributes), 1, hidden)


@operation("lstm")
def lstm(op: MilOperation) -> list[str]:
    """c = f c + i z and h = o activation(c), with the gates i, f, o and z, in one direction or in both"""
    activations = (
        _activation(op, "recurrent_activation", "sigmoid"),
        _activation(op, "cell_activation", "tanh"),
        _activation(op, "activation", "tanh"),
    )
    directions = [_lstm_weights(op, "")]
    if op.text("direction", "forward") == "bidirectional":
        directions.append(_lstm_weights(op, "_back"))
    op.ignore("weight_ih_back", "weight_hh_back", "bias_back", "peephole_back")
    count, hidden = len(directions), directions[0].recursion.shape[1]
    sequence = _sequence(op)
    states = [_state(op, name, count, hidden) for name in ("initial_h", "initial_c")]
    if op.has("clip"):
        results = _clipped(op, sequence, states, directions, activations)
    else:
        weights, recursion, bias, peepholes = (
            op.array([getattr(direction, name) for direction in directions], "float32")
            for name in ("weights", "recursion", "both_biases", "peepholes")
        )
        attributes = {**_attributes([*activations] * count), "hidden_size": hidden}
        attributes["direction"] = "bidirectional" if count == 2 else "forward"
        inputs = [sequence, weights, recursion, bias, "", *states, peepholes]
        results = op.nodes("LSTM", inputs, 3, **attributes)
    return _results(op, results, count, hidden)


def _lstm_weights(op: MilOperation, suffix: str) -> LstmWeights:
    weights, recursion = (_matrix(op, f"{name}{suffix}", LSTM_GATES) for name in ("weight_ih", "weight_hh"))
    hidden = recursion.shape[1]
    bias = _vector(op, f"bias{suffix}", LSTM_GATES, hidden)
    return LstmWeights(weights, recursion, bias, _vector(op, f"peephole{suffix}", PEEPHOLES, hidden))


def _clipped(
    op: MilOperation,
    sequence: str,
    states: Sequence[str],
    directions: Sequence[LstmWeights],
    activations: tuple[str, str, str],
) -> list[str]:
    """The results of ONNX's `LSTM`, each direction computed by itself."""
    found = []
    for index, weights in enumerate(directions):
        start, cell = (op.node("Gather", state, op.array(index, "int64"), axis=0) for state in states)
        clip = op.number("clip")
        found.append(
            clipped_lstm(op.graph, sequence, (start, cell), weights, activations, clip, reverse=index == 1)
        )
    joined = []
    for values, axis in zip(zip(*found, strict=True), (1, 0, 0), strict=True):
        expanded = [op.node("Unsqueeze", value, op.array([axis], "int64")) for value in values]
        joined.append(op.node("Concat", *expanded, axis=axis))
    return joined


def _activation(op: MilOperation, parameter: str, default: str) -> str:
    name = op.text(parameter, default).lower()
    if name not in ACTIVATIONS:
        op.refuse(f"activation '{name}'")
    return ACTIVATIONS[name]


def _attributes(activations: Sequence[str]) -> dict[str, Any]:
    """The activations as ONNX's recurrent operators take them."""
    names = ["Affine" if name == "Identity" else name for name in activations]
    parameters = [ALPHA_AND_BETA[name] for name in names if name in ALPHA_AND_BETA]
    attributes: dict[str, Any] = {"activations": names}
    if parameters:
        attributes["activation_alpha"] = [alpha for alpha, _ in parameters]
        attributes["activation_beta"] = [beta for _, beta in parameters]
    return attributes


def _matrix(op: MilOperation, parameter: str, gates: Sequence[int]) -> NDArray[np.float32]:
    """Weights of all gates, (gates * hidden size, features), with the gates in ONNX's order."""
    parts = np.split(op.constant(parameter).astype(np.float32), len(gates))
    return np.concatenate([parts[gate] for gate in gates])


def _vector(op: MilOperation, parameter: str, gates: Sequence[int], hidden: int) -> NDArray[np.float32]:
    """As `_matrix`, a value per gate and hidden unit; zeros where it is not given."""
    return _matrix(op, parameter, gates) if op.has(parameter) else np.zeros(len(gates) * hidden, np.float32)


def _sequence(op: MilOperation) -> str:
    """The input; for the direction `reverse` turned round, since the answers stay in the order of processing."""
    direction = op.text("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        op.refuse(f"direction '{direction}'")
    x = op.tensor("x")
    if direction != "reverse":
        return x
    minus = op.array([-1], "int64")
    return op.node("Slice", x, minus, op.array([-(2**62)], "int64"), op.array([0], "int64"), minus)


def _state(op: MilOperation, parameter: str, directions: int, hidden: int) -> str:
    """A state (batch, directions * hidden size) as ONNX wants it: (directions, batch, hidden size)."""
    state, rows, batch = op.tensor(parameter), op.shape(parameter)[0], op.shape("x")[1]
    if rows is None or rows != batch:
        # coremltools gives PyTorch's packed sequences a state of zeros with as many rows as there are steps.
        end = op.node("Shape", op.tensor("x"), start=1, end=2)
        state = op.node("Slice", state, op.array([0], "int64"), end, op.array([0], "int64"))
    split = op.node("Reshape", state, op.array([-1, directions, hidden], "int64"))
    return op.node("Transpose", split, perm=[1, 0, 2])


def _results(op: MilOperation, results: Sequence[str], directions: int, hidden: int) -> list[str]:
    """From ONNX's (steps, directions, batch, hidden size) and (directions, batch, hidden size) to MIL's shapes."""
    steps, *states = results
    width = directions * hidden
    last = [
        op.node("Reshape", op.node("Transpose", state, perm=[1, 0, 2]), op.array([-1, width], "int64"))
        for state in states
    ]
    if op.flag("output_sequence"):
        turned = op.node("Transpose", steps, perm=[0, 2, 1, 3])
        return [op.node("Reshape", turned, op.array([0, 0, width], "int64")), *last]
    return [op.node("Unsqueeze", last[0], op.array([0], "int64")), *last]
