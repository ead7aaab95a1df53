"""Long short-term memory whose cell is kept within limits, which ONNX's operator `LSTM` cannot do.

ONNX clips what enters an activation, Core ML the cell that is carried from step to step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.graph import GraphBuilder

Activation = str | Callable[[GraphBuilder, str], str]
"""An ONNX operator, or a function that adds nodes for a value and returns the result."""


@dataclass(frozen=True)
class LstmWeights:
    """The weights of one direction, with ONNX's order of the gates: input, output, forget, cell.

    Args:
        weights: (4 * hidden size, features).
        recursion: (4 * hidden size, hidden size).
        bias: (4 * hidden size).
        peepholes: (3 * hidden size): input, output, forget.
    """

    weights: NDArray[np.float32]
    recursion: NDArray[np.float32]
    bias: NDArray[np.float32]
    peepholes: NDArray[np.float32]

    @property
    def both_biases(self) -> NDArray[np.float32]:
        """The bias of the weights, then that of the recursion, which is 0."""
        return np.concatenate([self.bias, np.zeros_like(self.bias)])


def clipped_lstm(
    graph: GraphBuilder,
    sequence: str,
    state: tuple[str, str],
    weights: LstmWeights,
    activations: tuple[Activation, Activation, Activation],
    clip: float,
    *,
    reverse: bool = False,
    coupled: bool = False,
) -> list[str]:
    """Write one direction of an LSTM as a `Scan`.

    Args:
        graph: where to write to.
        sequence: float32 (steps, batch, features).
        state: hidden state and cell to start with, each (batch, hidden size).
        weights: those of the direction.
        activations: for the gates, for the cell's input and for the cell.
        clip: the cell stays between -clip and clip.
        reverse: whether to begin with the last step.
        coupled: whether the forget gate is 1 minus the input gate.

    Returns:
        The hidden states of all steps, (steps, batch, hidden size) in the sequence's order; the last hidden state
        and the last cell, each (batch, hidden size).
    """
    projected = graph.node("MatMul", [sequence, graph.constant(weights.weights.T.copy())])
    projected = graph.node("Add", [projected, graph.constant(weights.bias)])
    order: dict[str, Any] = {"scan_input_directions": [1], "scan_output_directions": [1]} if reverse else {}
    step = _step(graph, weights, activations, clip, coupled=coupled)
    hidden, cell, steps = graph.nodes("Scan", [*state, projected], 3, body=step, num_scan_inputs=1, **order)
    return [steps, hidden, cell]


def _step(
    graph: GraphBuilder,
    weights: LstmWeights,
    activations: tuple[Activation, Activation, Activation],
    clip: float,
    *,
    coupled: bool,
) -> GraphBuilder:
    """The graph of one step: from state, cell and projected input to state, cell and state again."""
    step = graph.subgraph("lstm_step")
    hidden, cell, projected = (step.input(name, "float32", None) for name in ("hidden", "cell", "projected"))
    of_gate, of_input, of_cell = activations
    look_in, look_out, look_forget = (step.constant(part) for part in np.split(weights.peepholes, 3))
    limits = [step.constant(float(limit)) for limit in (-clip, clip)]

    def gate(total: str, at: str, peephole: str) -> str:
        return _activated(step, of_gate, step.node("Add", [total, step.node("Mul", [at, peephole])]))

    recurrent = step.node("MatMul", [hidden, step.constant(weights.recursion.T.copy())])
    total = step.node("Add", [projected, recurrent])
    into, out, forget, update = step.nodes("Split", [total], 4, axis=-1, num_outputs=4)
    taken = gate(into, cell, look_in)
    left = step.node("Sub", [step.constant(1.0), taken]) if coupled else gate(forget, cell, look_forget)
    kept = step.node("Mul", [left, cell])
    added = step.node("Mul", [taken, _activated(step, of_input, update)])
    new_cell = step.node("Clip", [step.node("Add", [kept, added]), *limits])
    new_hidden = step.node("Mul", [gate(out, new_cell, look_out), _activated(step, of_cell, new_cell)])
    for value in (new_hidden, new_cell, new_hidden):
        step.output(value, "lstm_state", "float32")
    return step


def _activated(graph: GraphBuilder, activation: Activation, value: str) -> str:
    return graph.node(activation, [value]) if isinstance(activation, str) else activation(graph, value)
