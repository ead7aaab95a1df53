"""A small builder of ONNX graphs, shared by both translators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
}
"""onnx.TensorProto.DataType by numpy name."""


class GraphBuilder:
    """Collects nodes and constants; names are unique and deterministic.

    A value is the name of a tensor (str). `node` returns the name of the node's output.
    """

    def __init__(self, name: str = "model") -> None:
        self.name = name
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._taken: set[str] = {""}
        self._counters: dict[str, int] = {}

    def unique(self, hint: str) -> str:
        """A tensor name not used before, derived from `hint`."""
        name = hint
        while name in self._taken:
            self._counters[hint] = self._counters.get(hint, 0) + 1
            name = f"{hint}__{self._counters[hint]}"
        self._taken.add(name)
        return name

    def input(self, name: str, dtype: str, shape: Sequence[int | str | None]) -> str:
        """Declare a graph input and return its ONNX name.

        `shape` may hold None or a name for a dimension known at run time only.
        """
        from onnx import helper

        value = self.unique(name)
        self._inputs.append(helper.make_tensor_value_info(value, ELEMENT_TYPES[dtype], list(shape)))
        return value

    def output(self, value: str, name: str, dtype: str) -> str:
        """Declare that `value`, of numpy type `dtype`, is a graph output; returns its ONNX name."""
        from onnx import helper

        output = self.unique(name)
        self._nodes.append(helper.make_node("Identity", [value], [output]))
        self._outputs.append(helper.make_tensor_value_info(output, ELEMENT_TYPES[dtype], None))
        return output

    def constant(self, array: NDArray[Any] | float | int | Sequence[int], hint: str = "constant") -> str:
        """Add a constant tensor; Python ints and sequences become int64, floats float32."""
        from onnx import numpy_helper

        if not isinstance(array, np.ndarray):
            array = np.asarray(array, np.float32 if isinstance(array, float) else np.int64)
        name = self.unique(hint)
        # An array that is not contiguous would be copied value by value.
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def node(self, operator: str, inputs: Sequence[str], hint: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; an empty string stands for an optional input left out."""
        return self.nodes(operator, inputs, 1, hint, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: int, hint: str | None = None, **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs."""
        from onnx import helper

        names = [self.unique(hint or operator.lower()) for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def build(self) -> bytes:
        """The finished graph as a serialized ONNX `ModelProto`."""
        from onnx import helper

        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pytest-quantguard",
        )
        data: bytes = model.SerializeToString()
        return data
