"""Lists of tensors (MIL family `control_flow`).

All elements have one shape, so a list is a tensor with an element per row. What was never written is 0. Each list
grows where something is written behind its end, also one that should not.
"""

import math
from collections.abc import Sequence

import numpy as np

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.runtime.portable.ml_program.mil_types import COMPUTED_TYPES
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

# A damaged program must not exhaust the memory.
MOST_NUMBERS = 2**26


@operation("make_list")
def make_list(op: MilOperation) -> str:
    """A list of zeros; an element's size that is a name is not known before the first write, and 0 until then"""
    op.ignore("dynamic_length")
    dtype = op.text("dtype", "fp32")
    if dtype not in COMPUTED_TYPES:
        op.refuse(f"dtype '{dtype}'")
    sizes = [
        0 if isinstance(value.constant, str) else _size(op, value.constant) for value in op.values("elem_shape")
    ]
    if op.is_constant("init_length") and op.integer("init_length") > _most_rows(sizes):
        op.refuse(f"a list of {op.integer('init_length')} elements")
    length = op.int64("init_length") if op.has("init_length") else op.array(1, "int64")
    shape = op.node("Concat", _vector(op, length), op.array(sizes, "int64"), axis=0)
    return op.node("Expand", op.array(0, COMPUTED_TYPES[dtype]), shape)


@operation("list_length")
def list_length(op: MilOperation) -> str:
    """The number of elements"""
    length = op.node("Shape", op.tensor("ls"), start=0, end=1)
    return op.cast(op.node("Squeeze", length), "int32")


@operation("list_read")
def list_read(op: MilOperation) -> str:
    """One element"""
    index = op.node("Squeeze", op.int64("index"))
    return op.node("Gather", op.tensor("ls"), index, axis=0)


@operation("list_gather")
def list_gather(op: MilOperation) -> str:
    """Several elements as rows of a tensor"""
    return op.node("Gather", op.tensor("ls"), op.int64("indices"), axis=0)


@operation("list_write")
def list_write(op: MilOperation) -> str:
    """The list with one element replaced; a list that can grow does so where the index lies behind its end"""
    index = _vector(op, op.int64("index"))
    return _written(op, index, op.node("Unsqueeze", op.tensor("value"), op.array([0], "int64")))


@operation("list_scatter")
def list_scatter(op: MilOperation) -> str:
    """The list with several elements replaced by the rows of a tensor; it grows as for `list_write`"""
    return _written(op, op.int64("indices"), op.tensor("value"))


def _written(op: MilOperation, indices: str, rows: str) -> str:
    """The list with rows at some indices (an int64 vector)."""
    elements = _with_room(op, op.tensor("ls"), indices, rows)
    places = op.node("Unsqueeze", indices, op.array([1], "int64"))
    return op.node("ScatterND", elements, places, rows)


def _with_room(op: MilOperation, elements: str, indices: str, rows: str) -> str:
    """The list with as many zeros added as the rows need; the first ones say how large an element is."""
    shape = op.node("Shape", elements)
    zero = op.array([0], "int64")
    # The zero is for a scatter of no rows at all.
    ends = op.node("Concat", op.node("Add", indices, op.array([1], "int64")), zero, axis=0)
    # A write far behind the end finds no room, and the run fails.
    most = op.array([_most_rows(op.shape("ls")[1:])], "int64")
    length = op.node("Min", op.node("ReduceMax", ends, keepdims=1), most)
    needed = op.node("Concat", length, op.node("Shape", rows, start=1), axis=0)
    missing = op.node("Max", op.node("Sub", needed, shape), zero)
    pads = op.node("Concat", op.node("Mul", shape, zero), missing, axis=0)
    return op.node("Pad", elements, pads)


def _most_rows(sizes: Sequence[int | None]) -> int:
    return MOST_NUMBERS // max(1, math.prod(size or 1 for size in sizes))


def _vector(op: MilOperation, number: str) -> str:
    """A number as a vector of one element."""
    return op.node("Reshape", number, op.array([1], "int64"))


def _size(op: MilOperation, constant: object) -> int:
    if isinstance(constant, str):
        return 0
    if not isinstance(constant, np.ndarray) or constant.size != 1:
        raise ModelFileError(f"{op}: a size in elem_shape is no number; the model is damaged.")
    return int(constant.reshape(())[()])
