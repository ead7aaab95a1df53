"""The values of a MIL block and their names in the ONNX graph."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES, GraphBuilder
from pytest_quantguard.runtime.portable.ml_program.mil_types import COMPUTED_TYPES, NUMPY_TYPES, TensorType

MIL_NAMES = {numpy_name: name for name, numpy_name in NUMPY_TYPES.items() if name == numpy_name} | {
    "float16": "fp16",
    "float32": "fp32",
    "float64": "fp64",
}
"""MIL's name of each numpy type."""


@dataclass(frozen=True, eq=False)
class Value:
    """A MIL value: known now (`constant`), or computed by the ONNX graph (`node`).

    Args:
        name: its MIL name.
        type: None when it is no tensor.
        constant: a numpy array, a string, a list, a tuple or a dictionary.
        node: its ONNX name.
    """

    name: str
    type: TensorType | None
    constant: Any = None
    node: str | None = None


@dataclass
class Scope:
    """The graph being written and the values that operations may refer to, by MIL name.

    `states` has the ONNX name of each state's newest value. `round_float16` says whether float16 tensors are
    rounded to float16, or only stored with more digits than they need. `turn` is the number of the loop's turn, an
    int64 scalar of the graph; None outside of loops. `numbers` counts the operations of all blocks.
    """

    graph: GraphBuilder
    values: dict[str, Value] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    round_float16: bool = False
    turn: str | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)
    _written: dict[Value, str] = field(default_factory=dict)

    def inner(self, graph: GraphBuilder, turn: str | None) -> "Scope":
        """The scope of a block inside of this one, which sees these values and keeps its own to itself."""
        return replace(self, graph=graph, values=dict(self.values), states=dict(self.states), turn=turn)

    def write(self, value: Value) -> str:
        """The ONNX name of a value; a constant is added to the graph when it is first used."""
        if value.node is not None:
            return value.node
        if value not in self._written:
            self._written[value] = self.graph.constant(computed(value.constant, value.name), value.name)
        return self._written[value]

    def round(self, node: str, tensor_type: TensorType | None) -> str:
        """A computed tensor as its type holds it: if wanted rounded to float16, beyond 65,504 infinite."""
        if not self._rounds(tensor_type):
            return node
        half = self.graph.node("Cast", [node], f"{node}_half", to=ELEMENT_TYPES["float16"])
        return self.graph.node("Cast", [half], f"{node}_rounded", to=ELEMENT_TYPES["float32"])

    def round_array(self, array: NDArray[Any], tensor_type: TensorType | None) -> NDArray[Any]:
        """A tensor known now as its type holds it; see `round`."""
        if not self._rounds(tensor_type) or array.dtype != np.float32:
            return array
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float32)

    def _rounds(self, tensor_type: TensorType | None) -> bool:
        return self.round_float16 and tensor_type is not None and tensor_type.dtype == "fp16"


def constant_value(name: str, constant: Any) -> Value:
    """A value known now; the type of an array follows from its numpy type."""
    if isinstance(constant, np.ndarray) and constant.dtype != object:
        return Value(name, TensorType(MIL_NAMES[constant.dtype.name], constant.shape), constant)
    return Value(name, None, constant)


def computed(constant: Any, name: str) -> NDArray[Any]:
    """An array in the type that the engine computes with.

    Raises:
        UnsupportedModelError: it is no array of numbers, or of a type that the engine does not compute with.
    """
    dtype = MIL_NAMES.get(constant.dtype.name) if isinstance(constant, np.ndarray) else None
    if dtype not in COMPUTED_TYPES:
        kind = dtype or type(constant).__name__
        raise UnsupportedModelError(f"value '{name}' of type {kind} is not supported by the portable engine")
    return np.asarray(constant.astype(COMPUTED_TYPES[dtype], copy=False))
