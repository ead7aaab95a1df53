"""One MIL operation, as the functions under `ops/` see it."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES, GraphBuilder
from pytest_quantguard.runtime.portable.ml_program.mil_types import COMPUTED_TYPES, TensorType
from pytest_quantguard.runtime.portable.ml_program.scope import Scope, Value

NestedBlock = Callable[[GraphBuilder, Sequence[str], str | None], list[str]]
"""Writes a block inside of an operation. Takes the graph to write to, the ONNX names of the block's inputs and the
number of the loop's turn (see `Scope`); returns the ONNX names of the block's results."""


class MilOperation:
    """An operation's inputs as ONNX names or compile-time constants, and the means to write nodes.

    Args:
        scope: the graph to write to.
        name: MIL's name of the operation, for instance `conv`.
        inputs: the values bound to each parameter.
        output_names: the MIL names of the outputs.
        output_types: their declared types; None for an output that is no tensor.
        opset: the version of the operation set; iOS 15 is 5, iOS 18 is 8.
        blocks: the blocks inside of an operation of control flow.
    """

    def __init__(
        self,
        scope: Scope,
        name: str,
        inputs: dict[str, list[Value]],
        output_names: list[str],
        output_types: list[TensorType | None],
        opset: int,
        blocks: Sequence[NestedBlock] = (),
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.output_names = output_names
        self.output_types = output_types
        self.opset = opset
        self.blocks = blocks
        self.read: set[str] = set()
        self._scope = scope

    @property
    def graph(self) -> GraphBuilder:
        """The ONNX graph."""
        return self._scope.graph

    @property
    def turn(self) -> str | None:
        """The number of the loop's turn, an int64 scalar of the graph; None outside of loops."""
        return self._scope.turn

    def __str__(self) -> str:
        output = self.output_names[0] if self.output_names else "none"
        return f"operation '{self.name}' (output '{output}')"

    def refuse(self, reason: str) -> NoReturn:
        """Raise `UnsupportedModelError`; `reason` completes "operation 'conv' (output 'x'): ..."."""
        raise UnsupportedModelError(f"{self}: {reason} is not supported by the portable engine")

    # Tensors of the graph

    def has(self, parameter: str) -> bool:
        """Whether the parameter is given."""
        self.read.add(parameter)
        return bool(self.inputs.get(parameter))

    def ignore(self, *parameters: str) -> None:
        """Say that parameters do not change the result."""
        self.read.update(parameters)

    def values(self, parameter: str) -> list[Value]:
        """The values bound to a parameter."""
        if not self.has(parameter):
            raise ModelFileError(f"{self} misses its input '{parameter}'; the model is damaged.")
        return self.inputs[parameter]

    def tensor(self, parameter: str) -> str:
        """The ONNX name of an input."""
        return self._scope.write(self.values(parameter)[0])

    def tensor_as(self, parameter: str, dtype: str) -> str:
        """The ONNX name of an input, converted to a numpy type where it has another one."""
        tensor = self.tensor(parameter)
        return tensor if self.computed_type(parameter) == dtype else self.cast(tensor, dtype)

    def tensors(self, parameter: str) -> list[str]:
        """The ONNX names of an input that is a tuple."""
        return [self._scope.write(value) for value in self.values(parameter)]

    # States

    def read_state(self, parameter: str) -> str:
        """The ONNX name of a state's newest value."""
        return self._scope.states[self._state(parameter)]

    def write_state(self, parameter: str, tensor: str) -> None:
        """Set a state's newest value."""
        self._scope.states[self._state(parameter)] = tensor

    def _state(self, parameter: str) -> str:
        name = self.values(parameter)[0].name
        if name not in self._scope.states:
            raise ModelFileError(f"{self}: '{name}' is no state; the model is damaged.")
        return name

    # Types

    def type_of(self, parameter: str, index: int = 0) -> TensorType:
        """The declared type of an input."""
        tensor_type = self.values(parameter)[index].type
        if tensor_type is None:
            self.refuse(f"input '{parameter}', which is no tensor,")
        return tensor_type

    def shape(self, parameter: str, index: int = 0) -> tuple[int | None, ...]:
        """The declared shape of an input; a dimension known at run time only is None."""
        shape = self.type_of(parameter, index).shape
        if shape is None:
            self.refuse(f"input '{parameter}' of unknown rank")
        return shape

    def static_shape(self, parameter: str) -> tuple[int, ...]:
        """The declared shape of an input; refuses flexible shapes."""
        sizes = tuple(size for size in self.shape(parameter) if size is not None)
        if len(sizes) != self.rank(parameter):
            self.refuse(f"input '{parameter}' of flexible shape")
        return sizes

    def rank(self, parameter: str) -> int:
        """The number of dimensions of an input."""
        return len(self.shape(parameter))

    def computed_type(self, parameter: str) -> str:
        """What an input is computed as: `float32`, `int32` or `bool`."""
        dtype = self.type_of(parameter).dtype
        if dtype not in COMPUTED_TYPES:
            self.refuse(f"input '{parameter}' of type {dtype}")
        return COMPUTED_TYPES[dtype]

    def computed_output_types(self) -> list[str]:
        """What the outputs are computed as."""
        dtypes = [tensor_type.dtype if tensor_type else "unknown" for tensor_type in self.output_types]
        for dtype in dtypes:
            if dtype not in COMPUTED_TYPES:
                self.refuse(f"an output of type {dtype}")
        return [COMPUTED_TYPES[dtype] for dtype in dtypes]

    def is_float(self, parameter: str) -> bool:
        """Whether an input is computed in floating point."""
        return self.computed_type(parameter) == "float32"

    # Compile-time constants

    def is_constant(self, parameter: str) -> bool:
        """Whether an input is given and known now."""
        return self.has(parameter) and self.inputs[parameter][0].constant is not None

    def constant(self, parameter: str) -> NDArray[Any]:
        """An input known now, in its stored type."""
        value = self.values(parameter)[0]
        if value.constant is None:
            self.refuse(f"input '{parameter}' that is no constant")
        return np.asarray(value.constant)

    def integer(self, parameter: str, default: int | None = None) -> int:
        """A constant whole number."""
        if default is not None and not self.has(parameter):
            return default
        return int(self._scalar(parameter))

    def number(self, parameter: str, default: float | None = None) -> float:
        """A constant number."""
        if default is not None and not self.has(parameter):
            return default
        return float(self._scalar(parameter))

    def flag(self, parameter: str, default: bool = False) -> bool:
        """A constant truth value."""
        return bool(self._scalar(parameter)) if self.has(parameter) else default

    def text(self, parameter: str, default: str | None = None) -> str:
        """A constant string."""
        if default is not None and not self.has(parameter):
            return default
        return str(self._scalar(parameter))

    def integers(self, parameter: str, default: Sequence[int] | None = None) -> list[int]:
        """A constant vector of whole numbers."""
        if default is not None and not self.has(parameter):
            return list(default)
        return [int(number) for number in self.constant(parameter).reshape(-1)]

    def flags(self, parameter: str, default: Sequence[bool]) -> list[bool]:
        """A constant vector of truth values."""
        if not self.has(parameter):
            return list(default)
        return [bool(flag) for flag in self.constant(parameter).reshape(-1)]

    def axis(self, parameter: str, rank: int, default: int | None = None) -> int:
        """A constant axis of a tensor with `rank` dimensions, counted from the front."""
        axis = self.integer(parameter, default)
        if not -rank <= axis < max(rank, 1):
            raise ModelFileError(
                f"{self}: {parameter} {axis} is no axis of {rank} dimensions; the model is damaged."
            )
        return axis % rank if rank else 0

    def _scalar(self, parameter: str) -> Any:
        constant = self.constant(parameter)
        if constant.size != 1:
            raise ModelFileError(f"{self}: input '{parameter}' is not one value; the model is damaged.")
        return constant.reshape(())[()]

    # Writing

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Write a node with one output; returns the output's name."""
        return self.graph.node(operator, inputs, self.output_names[0], **attributes)

    def nodes(self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Write a node with several outputs."""
        return self.graph.nodes(operator, inputs, outputs, self.output_names[0], **attributes)

    def array(self, values: Any, dtype: str) -> str:
        """Write a constant."""
        return self.graph.constant(np.asarray(values, dtype), f"{self.output_names[0]}_constant")

    def like(self, parameter: str, value: float) -> str:
        """Write a constant number in the type that an input is computed in."""
        return self.array(value, self.computed_type(parameter))

    def int64(self, parameter: str) -> str:
        """An integer input in the type that ONNX wants for shapes and indices."""
        if self.is_constant(parameter):
            return self.array(self.constant(parameter), "int64")
        return self.cast(self.tensor(parameter), "int64")

    def size(self, tensor: str, axis: int) -> str:
        """One size of a tensor of the graph, a number of type int64."""
        end = axis + 1 if axis != -1 else 2**31
        return self.node("Squeeze", self.node("Shape", tensor, start=axis, end=end))

    def count(self, size: str) -> str:
        """0, 1, ... up to a size of type int64."""
        return self.node("Range", self.array(0, "int64"), size, self.array(1, "int64"))

    def cast(self, tensor: str, dtype: str) -> str:
        """Write a conversion to a numpy type."""
        return self.node("Cast", tensor, to=ELEMENT_TYPES[dtype])
