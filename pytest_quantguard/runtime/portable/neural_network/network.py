"""The network under translation: ONNX nodes whose shapes are known as soon as they are added."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.constants_file import ConstantsFile
from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES, OPSET, GraphBuilder

Shape = tuple[int | None, ...]
"""Sizes of a tensor; None where the size depends on the values of an input."""

# Constants up to this size are known by value: shapes of a Reshape, factors of a Resize, and what is computed
# from them, such as a shape that a network puts together itself.
_KNOWN_SIZE = 1024
_FOLDED = frozenset(
    (
        *("Cast", "Concat", "Expand", "Gather", "Range", "Reshape", "Slice", "Squeeze", "Tile", "Transpose"),
        *("Unsqueeze", "Add", "Div", "Floor", "Max", "Min", "Mul", "Sub", "ReduceProd"),
        *("Equal", "Greater", "Less", "Not", "Where"),
    )
)

# A damaged file must not exhaust the memory: tensors of more elements are refused.
_LARGEST = 2**30


class ShapeError(Exception):
    """Shapes do not fit, or are not known before the first sample; the translator adds the layer's name."""


@dataclass(frozen=True)
class Blob:
    """A tensor of the network.

    Args:
        value: the ONNX value that holds the numbers.
        shape: the shape that the specification gives the tensor. The value may have another shape of the same
            size: a rank 5 tensor travels as (batch, channels, height, width) from convolution to convolution.
        scalar: whether the only dimension is there because a Core ML tensor has at least one: a new dimension
            (`expandDims`, `stack`) takes its place, as coremltools' tests of scalars show.
    """

    value: str
    shape: Shape
    scalar: bool = False

    @property
    def rank(self) -> int:
        """Number of dimensions that the specification gives the tensor."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements.

        Raises:
            ShapeError: it depends on the values of an input.
        """
        return product(self.shape)


def known(shape: Sequence[int | None]) -> tuple[int, ...]:
    """A shape whose sizes are all known before the first sample.

    Raises:
        ShapeError: one of them depends on the values of an input.
    """
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) != len(shape):
        raise ShapeError("a shape that depends on input values")
    return sizes


def product(shape: Sequence[int | None]) -> int:
    """Number of elements of a shape that is fully known."""
    return math.prod(known(shape))


class Network:
    """Adds ONNX nodes and tracks the shape of every value.

    Layers ask for a blob in the shape they compute with: `exact` for the specification's shape, `image` for
    (batch, channels, height, width). A blob that has this shape already costs nothing.

    Attributes:
        normalized_rows: by ONNX name, values made by `LayerNormalization` without factors over the last axis: its
            input and its epsilon.
        graph: the ONNX graph.
        inputs: the graph's inputs, ONNX names by Core ML names.
        declared_turn: the graph's input with the number of iterations of loops, where a layer has asked for it.
    """

    def __init__(self, name: str, *, counts_turns: bool = False, file: ConstantsFile | None = None) -> None:
        self.graph = GraphBuilder(name, file=file)
        self.inputs: dict[str, str] = {}
        self.declared_turn: str | None = None
        self._counts_turns = counts_turns
        self._types: dict[str, Any] = {}
        self._known: dict[str, NDArray[Any]] = {}
        self._sources: dict[str, str] = {}
        self._reshaped: dict[tuple[str, Shape], str] = {}
        self.normalized_rows: dict[str, tuple[str, float]] = {}

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Blob:
        """Declare a graph input."""
        from onnx import helper

        value = self.graph.input(name, dtype, shape)
        self.inputs[name] = value
        self._types[value] = helper.make_tensor_type_proto(ELEMENT_TYPES[dtype], list(shape))
        return Blob(value, tuple(shape))

    @property
    def turn(self) -> str | None:
        """How many iterations of loops there have been, an int64 scalar; None for a graph without loops."""
        from onnx import helper

        if self._counts_turns and self.declared_turn is None:
            self.declared_turn = self.graph.input("turn", "int64", ())
            self._types[self.declared_turn] = helper.make_tensor_type_proto(ELEMENT_TYPES["int64"], ())
        return self.declared_turn

    def constant(self, array: NDArray[Any] | float | int | Sequence[int], hint: str = "constant") -> str:
        """Add a constant tensor; Python ints and sequences become int64, floats float32."""
        from onnx import helper

        if not isinstance(array, np.ndarray):
            array = np.asarray(array, np.float32 if isinstance(array, float) else np.int64)
        value = self.graph.constant(array, hint)
        self._types[value] = helper.make_tensor_type_proto(ELEMENT_TYPES[array.dtype.name], array.shape)
        if array.size <= _KNOWN_SIZE:
            self._known[value] = array
        return value

    def node(self, operator: str, *inputs: str, hint: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; optional inputs can be left out at the end only."""
        return self.nodes(operator, inputs, 1, hint=hint, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: int, *, hint: str | None = None, **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs.

        Raises:
            ShapeError: the inputs' shapes do not fit the operator.
        """
        names = self.graph.nodes(operator, inputs, outputs, hint, **attributes)
        self._infer(operator, inputs, names, attributes)
        return names

    def adopt(self, value: str, shape: Sequence[int]) -> str:
        """Take over a float32 value that was added to the graph itself, for instance with a body; returns it."""
        from onnx import helper

        self._types[value] = helper.make_tensor_type_proto(ELEMENT_TYPES["float32"], list(shape))
        return value

    def _infer(self, operator: str, inputs: Sequence[str], outputs: list[str], attributes: dict[str, Any]) -> None:
        from onnx import checker, defs, helper, numpy_helper, shape_inference

        node = helper.make_node(operator, list(inputs), outputs, **attributes)
        try:
            types = shape_inference.infer_node_outputs(
                defs.get_schema(operator, OPSET, ""),
                node,
                {name: self._types[name] for name in inputs},
                {name: numpy_helper.from_array(self._known[name]) for name in inputs if name in self._known},
                opset_imports=[helper.make_opsetid("", OPSET)],
            )
        except (shape_inference.InferenceError, checker.ValidationError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ShapeError(f"a shape that ONNX's {operator} refuses ({reason})") from error
        if set(outputs) - set(types):
            raise ShapeError(f"a shape that ONNX's {operator} does not tell")
        self._types.update(types)
        for name in outputs:
            if self._has_rank(name) and math.prod(size or 1 for size in self.shape(name)) > _LARGEST:
                raise ShapeError(f"a tensor of shape {self.shape(name)}")
        if operator in _FOLDED and all(name in self._known for name in inputs):
            self._fold(node, inputs, outputs)

    def _fold(self, node: Any, inputs: Sequence[str], outputs: list[str]) -> None:
        """Work out a node whose inputs are known by value."""
        from onnx.reference import ReferenceEvaluator

        values = ReferenceEvaluator(node).run(None, {name: self._known[name] for name in inputs})
        for name, value in zip(outputs, values, strict=True):
            array = np.asarray(value)
            if array.size <= _KNOWN_SIZE and array.dtype.name in ELEMENT_TYPES:
                self._known[name] = array

    def _has_rank(self, value: str) -> bool:
        return bool(self._types[value].tensor_type.HasField("shape"))

    def shape(self, value: str) -> Shape:
        """The shape of an ONNX value, as far as it is known before the first sample."""
        if not self._has_rank(value):
            raise ShapeError("a rank that depends on input values")
        tensor = self._types[value].tensor_type
        return tuple(
            size.dim_value if size.WhichOneof("value") == "dim_value" else None for size in tensor.shape.dim
        )

    def blob(self, value: str, shape: Shape | None = None) -> Blob:
        """A blob from an ONNX value; of the value's own shape without `shape`, or where that leaves sizes open."""
        if shape is not None and None not in shape:
            return Blob(value, shape)
        if shape is None or self._has_rank(value):
            return Blob(value, self.shape(value))
        return Blob(value, shape)

    def reshaped(self, blob: Blob, shape: Shape) -> str:
        """The blob's numbers, in the same order, as an ONNX value of `shape`."""
        source = self._sources.get(blob.value, blob.value)
        if self.shape(source) == shape and None not in shape:
            return source
        if self.shape(blob.value) == shape:
            return blob.value
        if shape.count(None) > 1:
            raise ShapeError("a shape that depends on input values")
        if (source, shape) not in self._reshaped:
            target = [-1 if size is None else size for size in shape]
            value = self.node("Reshape", source, self.constant(target, "shape"), allowzero=1)
            self._reshaped[source, shape] = value
            self._sources[value] = source
        return self._reshaped[source, shape]

    def at_least_one(self, value: str, shape: Shape) -> Blob:
        """A blob of a shape; of one dimension where that has none, because a Core ML tensor has at least one."""
        return self.blob(value, shape) if shape else Blob(self.reshaped(Blob(value, ()), (1,)), (1,), scalar=True)

    def exact(self, blob: Blob) -> str:
        """The blob as an ONNX value of the specification's shape."""
        return self.reshaped(blob, blob.shape)

    def image(self, blob: Blob) -> str:
        """The blob as an ONNX value of shape (batch, channels, height, width): leading dimensions count as batch.

        Raises:
            ShapeError: the blob has fewer than three dimensions.
        """
        return self.reshaped(blob, image_shape(blob))

    def map(self, operator: str, blob: Blob, *others: str, **attributes: Any) -> Blob:
        """Apply an operator element by element; `others` are further inputs that do not change the shape."""
        return Blob(self.node(operator, blob.value, *others, **attributes), blob.shape, blob.scalar)

    def combine(self, operator: str, blobs: Sequence[Blob], **attributes: Any) -> Blob:
        """Apply an operator element by element to blobs that broadcast to each other (numpy's rules)."""
        values = self.aligned(blobs)
        value = self.node(operator, *values, **attributes)
        if all(None not in blob.shape for blob in blobs):
            shape = tuple(np.broadcast_shapes(*(known(blob.shape) for blob in blobs)))
            return Blob(value, shape, all(blob.scalar for blob in blobs))
        return self.blob(value)

    def size_of(self, blob: Blob) -> str:
        """The blob's shape as an int64 vector."""
        if None in blob.shape:
            return self.node("Shape", self.exact(blob))
        return self.constant(known(blob.shape), "shape")

    def integers(self, blob: Blob) -> str:
        """The blob as int64, for indices and shapes (every Core ML blob holds float32)."""
        return self.node("Cast", self.exact(blob), to=ELEMENT_TYPES["int64"])

    def vector(self, blob: Blob) -> str:
        """The blob's values as an int64 vector, for a shape that is an input."""
        return self.node("Reshape", self.integers(blob), self.constant([-1]))

    def floats(self, value: str) -> str:
        """An ONNX value of any type as float32."""
        return self.node("Cast", value, to=ELEMENT_TYPES["float32"])

    def aligned(self, blobs: Sequence[Blob]) -> list[str]:
        """The blobs as ONNX values that broadcast to each other as the specification's shapes do."""
        first = blobs[0]
        if all(self._alike(blob, first) for blob in blobs):
            return [blob.value for blob in blobs]
        if first.rank >= 4 and all(
            blob.rank == first.rank and blob.shape[:-3] == first.shape[:-3] and None not in blob.shape
            for blob in blobs
        ):
            return [self.image(blob) for blob in blobs]
        return [self.exact(blob) for blob in blobs]

    def _alike(self, blob: Blob, other: Blob) -> bool:
        return (
            blob.shape == other.shape
            and None not in blob.shape
            and self.shape(blob.value) == self.shape(other.value)
        )


def image_shape(blob: Blob) -> Shape:
    """(batch, channels, height, width) of a blob of rank 3 or more."""
    if blob.rank < 3:
        raise ShapeError(f"an input of rank {blob.rank} (at least 3 is needed)")
    if blob.rank == 4:
        return blob.shape
    return (product(blob.shape[:-3]), *blob.shape[-3:])
