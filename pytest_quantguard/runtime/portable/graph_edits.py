"""Changing a finished ONNX graph: names, inputs, outputs, types."""

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray


class GraphEdits:
    """Edits an ONNX `GraphProto` in place. Values are names of tensors.

    Args:
        graph: the outermost graph.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def rename(self, value: str, name: str) -> None:
        """Call a tensor by another name; one that has the name already gives way."""
        if value == name:
            return
        if name in self._names():
            self._replace(name, self._unique(name))
        self._replace(value, name)

    def cast_input(self, name: str, element_type: int) -> None:
        """Declare an input in another element type, and convert it to the one it had."""
        declared = _named(self._graph.input, name)
        computed = declared.type.tensor_type.elem_type
        if computed == element_type:
            return
        inner = self._unique(f"{name}_computed")
        for node in _all_nodes(self._graph):
            _replace_all(node.input, name, inner)
        declared.type.tensor_type.elem_type = element_type
        self._insert(0, "Cast", [name], inner, to=computed)

    def default(self, name: str, array: NDArray[Any]) -> None:
        """Give an input a value for when it is not fed, of the element type that it is declared with."""
        from onnx import helper, numpy_helper

        element_type = _named(self._graph.input, name).type.tensor_type.elem_type
        values = array.astype(helper.tensor_dtype_to_np_dtype(element_type))
        self._graph.initializer.append(numpy_helper.from_array(values, name))

    def cast_output(self, name: str, element_type: int) -> None:
        """Give out an output in another element type."""
        declared = _named(self._graph.output, name)
        if declared.type.tensor_type.elem_type == element_type:
            return
        inner = self._unique(f"{name}_computed")
        for node in _all_nodes(self._graph):
            _replace_all(node.input, name, inner)
            _replace_all(node.output, name, inner)
        declared.type.tensor_type.elem_type = element_type
        self._insert(len(self._graph.node), "Cast", [inner], name, to=element_type)

    def node(self, operator: str, inputs: Sequence[str], hint: str, **attributes: Any) -> str:
        """Add a node with one output at the end; returns the output's name."""
        output = self._unique(hint)
        self._insert(len(self._graph.node), operator, inputs, output, **attributes)
        return output

    def constant(self, array: NDArray[Any], hint: str) -> str:
        """Add a constant; an array of objects holds text."""
        from onnx import numpy_helper

        name = self._unique(hint)
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def add_output(self, name: str, operator: str, inputs: Sequence[str], like: str | None) -> None:
        """Add an output that a node computes, of the element type of the constant `like`, else float32."""
        from onnx import TensorProto, helper

        if name in self._names():
            self._replace(name, self._unique(name))
        self._insert(len(self._graph.node), operator, inputs, name)
        element_type = _named(self._graph.initializer, like).data_type if like else TensorProto.FLOAT
        self._graph.output.append(helper.make_tensor_value_info(name, element_type, None))

    def remove_output(self, name: str) -> None:
        """Keep a tensor, but not as an output of the graph."""
        self._graph.output.remove(_named(self._graph.output, name))

    def document(self, name: str, text: str, *, image: bool = False) -> None:
        """Describe an input or output, and mark it as an image (ONNX: docs/TypeDenotation.md)."""
        for declared in (*self._graph.input, *self._graph.output):
            if declared.name == name:
                declared.doc_string = text
                if image:
                    declared.type.denotation = "IMAGE"

    def finish(self) -> None:
        """Remove nodes and constants that no output depends on, and name each node by its output."""
        used = {output.name for output in self._graph.output}
        kept = []
        for node in reversed(self._graph.node):
            if used & set(node.output):
                kept.append(node)
                used.update(name for inner in _all_nodes_of(node) for name in inner.input)
                used.update(output for body in _bodies(node) for output in _outputs(body))
        nodes = [type(node).FromString(node.SerializeToString()) for node in reversed(kept)]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        for index in reversed(range(len(self._graph.initializer))):
            if self._graph.initializer[index].name not in used:
                del self._graph.initializer[index]
        for node in _all_nodes(self._graph):
            node.name = next(filter(None, node.output), "")

    def _insert(self, index: int, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self._graph.node.insert(index, helper.make_node(operator, list(inputs), [output], **attributes))

    def _names(self) -> set[str]:
        nodes = list(_all_nodes(self._graph))
        names = {name for node in nodes for name in (*node.input, *node.output)}
        graphs = [self._graph, *(body for node in nodes for body in _bodies(node))]
        for graph in graphs:
            names.update(value.name for value in (*graph.input, *graph.output, *graph.initializer))
        return names

    def _unique(self, hint: str) -> str:
        names = self._names()
        return next(name for name in _candidates(hint) if name not in names)

    def _replace(self, old: str, new: str) -> None:
        nodes = list(_all_nodes(self._graph))
        for node in nodes:
            _replace_all(node.input, old, new)
            _replace_all(node.output, old, new)
        for graph in [self._graph, *(body for node in nodes for body in _bodies(node))]:
            for value in (*graph.input, *graph.output, *graph.initializer):
                if value.name == old:
                    value.name = new


def _candidates(hint: str) -> Iterator[str]:
    yield hint
    number = 1
    while True:
        yield f"{hint}__{number}"
        number += 1


def _named(values: Any, name: str) -> Any:
    return next(value for value in values if value.name == name)


def _replace_all(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _bodies(node: Any) -> list[Any]:
    """The graphs of `If`, `Loop` and `Scan`."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _outputs(graph: Any) -> list[str]:
    return [output.name for output in graph.output]


def _all_nodes_of(node: Any) -> Iterator[Any]:
    yield node
    for body in _bodies(node):
        yield from _all_nodes(body)


def _all_nodes(graph: Any) -> Iterator[Any]:
    """Every node of a graph, and of the graphs inside them."""
    for node in graph.node:
        yield from _all_nodes_of(node)
