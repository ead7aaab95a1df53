"""The ONNX graphs between the steps of a network, translated when they are first reached."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.models.description import ModelDescription
from pytest_quantguard.runtime.portable.neural_network.assemble import add_layer
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, ShapeError
from pytest_quantguard.runtime.portable.neural_network.outputs import declare_outputs
from pytest_quantguard.runtime.portable.neural_network.registry import OpenShapeError, read_layer
from pytest_quantguard.runtime.portable.neural_network.steps import GraphStep, inputs_of
from pytest_quantguard.runtime.portable.translation import LoadGraph

Tensors = dict[str, NDArray[Any]]

SCORES = "scores"
"""What the probabilities are called among the results of `StepGraphs.finish`."""

# Bytes of the graphs that are kept for later samples: a loop whose shapes grow makes one per iteration.
_KEPT_BYTES = 2**28


@dataclass(frozen=True)
class _Graph:
    """A loaded graph: ONNX names by the names in the file, how many layers it holds, and its bytes."""

    session: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    turn: str | None
    layers: int
    size: int

    def run(self, tensors: Mapping[str, NDArray[Any]], turn: int = 0) -> Tensors:
        feeds = {value: tensors[name] for name, value in self.inputs.items()}
        if self.turn:
            feeds[self.turn] = np.array(turn, np.int64)
        if not self.outputs:
            return {}
        values = self.session.run(list(self.outputs.values()), feeds)
        return dict(zip(self.outputs, values, strict=True))


class StepGraphs:
    """Translates, keeps and runs the graphs of one network; may be used by several threads at once.

    Args:
        model: the model's name, for errors.
        constants: layers that are part of every graph that reads their output, by its name.
        load: makes a session of an ONNX model.
    """

    def __init__(self, model: str, constants: Mapping[str, Any], load: LoadGraph) -> None:
        self._model, self._constants, self._load = model, constants, load
        self._lock = threading.Lock()
        self._graphs: dict[Any, _Graph] = {}

    def compute(self, step: GraphStep, start: int, tensors: Tensors, wanted: set[str], turn: int) -> int:
        """Compute layers of a step from `start` on, as many as one graph can hold.

        Args:
            step: the step.
            start: its first layer that is not computed yet.
            tensors: what has been computed; the results join them.
            wanted: the tensors that other steps need.
            turn: how many iterations of loops there have been; random numbers differ from one to the next.

        Returns:
            The first layer of the step that is still to be computed: one that has to know the shape of a tensor
            which depends on values.

        Raises:
            UnsupportedModelError: a layer has no translation for these shapes.
        """
        layers = step.layers[start:]
        shapes = self._shapes(layers, tensors)
        graph = self._graph((step, start, tuple(shapes.items())), lambda: self._layers(layers, (), shapes, wanted))
        tensors.update(graph.run(tensors, turn))
        return start + graph.layers

    def finish(
        self, network: Any, description: ModelDescription, tensors: Tensors, names: Sequence[str]
    ) -> Tensors:
        """The model's outputs by name, with `SCORES`, from the tensors `names` that they are made of."""
        shapes = {name: tensors[name].shape for name in names if name in tensors}

        def translate() -> tuple[Network, dict[str, str], int]:
            net, blobs = self._start(shapes, names)
            outputs, scores = declare_outputs(net, network, description, blobs, self._model)
            return net, outputs | ({SCORES: scores} if scores else {}), 0

        return self._graph(("end", tuple(shapes.items())), translate).run(tensors)

    def _shapes(self, layers: Sequence[Any], tensors: Tensors) -> dict[str, tuple[int, ...]]:
        names = [name for name in inputs_of(layers) if name not in self._constants]
        for message in layers:
            for name in message.input:
                if name in names and name not in tensors:
                    layer = read_layer(message, self._model)
                    raise layer.unsupported(f"input {name!r}, which no earlier layer produces,")
        return {name: tensors[name].shape for name in names}

    def _graph(self, key: Any, translate: Callable[[], tuple[Network, dict[str, str], int]]) -> _Graph:
        with self._lock:
            graph = self._graphs.pop(key, None)
            if graph is None:
                net, outputs, layers = translate()
                data = net.graph.build()
                # onnxruntime does not load a graph of which nothing is needed.
                session = self._load(data) if outputs else None
                graph = _Graph(session, net.inputs, outputs, net.declared_turn, layers, len(data))
            self._graphs[key] = graph  # the last one used is the last one dropped
            total = sum(kept.size for kept in self._graphs.values())
            for other in list(self._graphs)[:-1]:
                if total <= _KEPT_BYTES:
                    break
                total -= self._graphs.pop(other).size
        return graph

    def _layers(
        self, layers: Sequence[Any], rest: Sequence[Any], shapes: Mapping[str, tuple[int, ...]], wanted: set[str]
    ) -> tuple[Network, dict[str, str], int]:
        net, blobs = self._start(shapes, inputs_of(layers))
        for index, message in enumerate(layers):
            try:
                add_layer(net, message, blobs, self._model)
            except OpenShapeError:
                if not index:
                    raise
                # What was added of the layer is of no use: begin anew, without it.
                return self._layers(layers[:index], [*layers[index:], *rest], shapes, wanted)
        kept = wanted | set(inputs_of(rest))
        produced = dict.fromkeys(name for message in layers for name in message.output if name in kept)
        try:
            outputs = {name: net.graph.output(net.exact(blobs[name]), name, "float32") for name in produced}
        except ShapeError as error:
            raise read_layer(layers[-1], self._model).unsupported(str(error)) from error
        return net, outputs, len(layers)

    def _start(
        self, shapes: Mapping[str, tuple[int, ...]], names: Sequence[str]
    ) -> tuple[Network, dict[str, Blob]]:
        """A network with inputs of these shapes, and the constants among `names`."""
        net = Network(self._model, counts_turns=True)
        blobs = {name: net.input(name, shape) for name, shape in shapes.items()}
        for name in names:
            if name in self._constants:
                add_layer(net, self._constants[name], blobs, self._model)
        return net, blobs
