"""A small builder of ONNX graphs, shared by both translators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.constants_file import LARGE, ConstantsFile

# Understood by every onnxruntime that the project allows.
OPSET = 20
IR_VERSION = 9

ELEMENT_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint64": 13,
}
"""onnx.TensorProto.DataType by numpy name."""


class GraphBuilder:
    """Collects nodes and constants; names are unique and deterministic.

    A value is the name of a tensor (str). `node` returns the name of the node's output.

    Control flow nests graphs: build the body with a builder from `subgraph` and give that builder to `node` or
    `nodes` as the attribute (`then_branch=body`). A body sees every value of the graphs around it.

    Large constants go to `file`, if one is given; the graph then has to be saved there.
    """

    def __init__(
        self,
        name: str = "model",
        *,
        parent: "GraphBuilder | None" = None,
        file: ConstantsFile | None = None,
    ) -> None:
        from onnx import GraphProto, ModelProto

        self.name = name
        self._root: GraphBuilder = parent._root if parent else self
        self._taken: set[str] = parent._taken if parent else {""}
        self._counters: dict[str, int] = parent._counters if parent else {}
        if parent:
            self._graph = GraphProto(name=name)
            return
        self._file = file
        # Written to in place: copying a message copies the weights in it.
        self._model = ModelProto(ir_version=IR_VERSION, producer_name="pytest-quantguard")
        self._model.opset_import.add(domain="", version=OPSET)
        self._graph = self._model.graph
        self._graph.name = name

    def subgraph(self, name: str) -> "GraphBuilder":
        """A builder for a body of `If`, `Loop` or `Scan`.

        Names are unique over all graphs of the model. Constants go into the outermost graph, so a body holds nodes
        only. Declare the body's inputs and outputs with `input` and `output`, in ONNX's order.
        """
        return GraphBuilder(name, parent=self)

    def unique(self, hint: str) -> str:
        """A tensor name not used before, derived from `hint`."""
        name = hint
        while name in self._taken:
            self._counters[hint] = self._counters.get(hint, 0) + 1
            name = f"{hint}__{self._counters[hint]}"
        self._taken.add(name)
        return name

    def input(self, name: str, dtype: str, shape: Sequence[int | str | None] | None) -> str:
        """Declare a graph input and return its ONNX name.

        `shape` may hold None or a name for a dimension known at run time only; None leaves the rank open, too.
        """
        from onnx import helper

        value = self.unique(name)
        sizes = None if shape is None else list(shape)
        self._graph.input.append(helper.make_tensor_value_info(value, ELEMENT_TYPES[dtype], sizes))
        return value

    def output(self, value: str, name: str, dtype: str) -> str:
        """Declare that `value`, of numpy type `dtype`, is a graph output; returns its ONNX name."""
        from onnx import helper

        output = self.unique(name)
        self._graph.node.append(helper.make_node("Identity", [value], [output], name=output))
        self._graph.output.append(helper.make_tensor_value_info(output, ELEMENT_TYPES[dtype], None))
        return output

    def constant(self, array: NDArray[Any] | float | int | Sequence[int], hint: str = "constant") -> str:
        """Add a constant tensor; Python ints and sequences become int64, floats float32."""
        if not isinstance(array, np.ndarray):
            array = np.asarray(array, np.float32 if isinstance(array, float) else np.int64)
        name = self.unique(hint)
        little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
        tensor = self._root._graph.initializer.add(
            name=name, data_type=ELEMENT_TYPES[array.dtype.name], dims=array.shape
        )
        if self._root._file is None or array.nbytes < LARGE:
            tensor.raw_data = little_endian.tobytes()
            return name
        tensor.data_location = tensor.EXTERNAL
        for key, value in self._root._file.add(little_endian).items():
            tensor.external_data.add(key=key, value=value)
        return name

    def node(self, operator: str, inputs: Sequence[str], hint: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; an empty string stands for an optional input left out."""
        return self.nodes(operator, inputs, 1, hint, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: int, hint: str | None = None, **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; an attribute that is a graph is given as its finished builder."""
        from onnx import helper

        for key, value in attributes.items():
            if isinstance(value, GraphBuilder):
                attributes[key] = value._graph
        names = [self.unique(hint or operator.lower()) for _ in range(outputs)]
        # onnxruntime 1.20 makes new names of those of nodes, and without any makes the same one twice.
        attributes.setdefault("name", names[0])
        self._graph.node.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def build(self) -> bytes:
        """The finished graph as a serialized ONNX `ModelProto`, also when called on one of its bodies.

        Nodes whose results nobody uses are left out; onnxruntime would compute them.
        """
        _remove_unused(self._root._graph)
        data: bytes = self._root._model.SerializeToString()
        return data


def _remove_unused(graph: Any) -> None:
    """Remove the nodes of the outermost graph that no output depends on."""
    used = {output.name for output in graph.output}
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if used.isdisjoint(node.output):
            del graph.node[index]
        else:
            used |= _read_by(node)


def _read_by(node: Any) -> set[str]:
    """The values that a node reads, also from inside its bodies."""
    read = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            read |= _read_by(inner)
        read.update(output.name for output in attribute.g.output)
    return read
