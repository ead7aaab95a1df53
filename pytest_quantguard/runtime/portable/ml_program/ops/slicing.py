"""Cutting tensors (MIL operations `slice_by_index`, `slice_by_size`, `crop`, `split`, ...)."""

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

END = int(np.iinfo(np.int32).max)


@operation("slice_by_index")
def slice_by_index(op: MilOperation) -> str:
    """x[begin:end:stride] per dimension; masked ends are open, squeezed dimensions are read at `begin`"""
    result = _sliced(op, op.tensor("x"))
    squeezed = op.flags("squeeze_mask", [False] * op.rank("x"))
    dropped = [axis for axis, squeeze in enumerate(squeezed) if squeeze]
    return op.node("Squeeze", result, op.array(dropped, "int64")) if dropped else result


@operation("slice_update")
def slice_update(op: MilOperation) -> str:
    """x with the part that slice_by_index reads replaced (iOS 18)"""
    x, flat = op.tensor("x"), op.array([-1], "int64")
    shape = op.node("Shape", x)
    count = op.count(op.node("Size", x))
    places = op.node("Reshape", _sliced(op, op.node("Reshape", count, shape)), flat)
    update = op.node("Reshape", op.tensor("update"), flat)
    return op.node("Reshape", op.node("ScatterElements", op.node("Reshape", x, flat), places, update), shape)


@operation("slice_by_size")
def slice_by_size(op: MilOperation) -> str:
    """`size` elements from `begin` per dimension; a size of -1 takes all that follow"""
    x = op.tensor("x")
    begin, size = op.int64("begin"), op.int64("size")
    zero = op.array(0, "int64")
    from_end = op.node("Add", begin, op.node("Shape", x))
    begin = op.node("Where", op.node("Less", begin, zero), from_end, begin)
    end = op.node("Where", op.node("Less", size, zero), op.array(END, "int64"), op.node("Add", begin, size))
    return op.node("Slice", x, begin, end, op.array(range(op.rank("x")), "int64"))


@operation("crop")
def crop(op: MilOperation) -> str:
    """The last two dimensions without some elements at both ends"""
    (top, bottom), (left, right) = op.integers("crop_height"), op.integers("crop_width")
    ends = [-bottom or END, -right or END]
    axes = op.array([-2, -1], "int64")
    return op.node("Slice", op.tensor("x"), op.array([top, left], "int64"), op.array(ends, "int64"), axes)


@operation("split")
def split(op: MilOperation) -> list[str]:
    """Parts along an axis, of equal or given sizes"""
    axis = op.axis("axis", op.rank("x"))
    parts = len(op.output_names)
    if op.has("split_sizes"):
        op.ignore("num_splits")
        sizes = [op.array(op.integers("split_sizes"), "int64")]
        return op.nodes("Split", [op.tensor("x"), *sizes], parts, axis=axis)
    op.ignore("num_splits")
    return op.nodes("Split", [op.tensor("x")], parts, axis=axis, num_outputs=parts)


@operation("sliding_windows")
def sliding_windows(op: MilOperation) -> str:
    """All windows of a size along an axis, as a new dimension behind it"""
    axis = op.axis("axis", op.rank("x"))
    size, stride = op.integer("size"), op.integer("stride", 1)
    end = op.node("Sub", op.size(op.tensor("x"), axis), op.array(size - 1, "int64"))
    starts = op.node("Range", op.array(0, "int64"), end, op.array(stride, "int64"))
    starts = op.node("Unsqueeze", starts, op.array([1], "int64"))
    places = op.node("Add", starts, op.array(range(size), "int64"))
    return op.node("Gather", op.tensor("x"), places, axis=axis)


@operation("reverse")
def reverse(op: MilOperation) -> str:
    """Elements in reverse order along some or all axes"""
    axes = op.integers("axes", range(op.rank("x")))
    if not axes:
        return op.tensor("x")
    starts, ends, steps = ([number] * len(axes) for number in (END, -END, -1))
    arrays = (op.array(numbers, "int64") for numbers in (starts, ends, axes, steps))
    return op.node("Slice", op.tensor("x"), *arrays)


@operation("reverse_sequence")
def reverse_sequence(op: MilOperation) -> str:
    """The first elements along an axis in reverse order, as many as `lengths` says for each entry of the batch"""
    x, rank = op.tensor("x"), op.rank("x")
    axis, batch_axis = op.axis("seq_axis", rank, 0), op.axis("batch_axis", rank, 0)
    index = op.node("Reshape", op.count(op.size(x, axis)), _vector_shape(op, axis))
    lengths = op.node("Reshape", op.int64("lengths"), _vector_shape(op, batch_axis))
    reversed_index = op.node("Sub", op.node("Sub", lengths, op.array(1, "int64")), index)
    places = op.node("Where", op.node("Less", index, lengths), reversed_index, index)
    return op.node("GatherElements", x, op.node("Expand", places, op.node("Shape", x)), axis=axis)


def _sliced(op: MilOperation, tensor: str) -> str:
    """A tensor of the shape of x, cut; squeezed dimensions are kept with size 1."""
    rank = op.rank("x")
    strides = op.integers("stride", [1] * rank)
    squeezed = op.flags("squeeze_mask", [False] * rank)
    no_begin, no_end = op.flags("begin_mask", [False] * rank), op.flags("end_mask", [False] * rank)
    backwards = [stride < 0 and not squeeze for stride, squeeze in zip(strides, squeezed, strict=True)]
    first = [END if back else 0 for back in backwards]
    last = [-END if back else END for back in backwards]
    # One element is read by a stride longer than any dimension, as its end may be 0 from the back.
    strides = [END if squeeze else stride for stride, squeeze in zip(strides, squeezed, strict=True)]
    no_end = [open_end or squeeze for open_end, squeeze in zip(no_end, squeezed, strict=True)]
    starts = _masked(op, "begin", no_begin, first)
    ends = _masked(op, "end", no_end, last)
    return op.node("Slice", tensor, starts, ends, op.array(range(rank), "int64"), op.array(strides, "int64"))


def _vector_shape(op: MilOperation, axis: int) -> str:
    """The shape that lays a vector along an axis of x."""
    shape = [1] * op.rank("x")
    shape[axis] = -1
    return op.array(shape, "int64")


def _masked(op: MilOperation, parameter: str, mask: list[bool], replacement: list[int]) -> str:
    """A vector with some elements replaced."""
    vector = op.int64(parameter)
    if not any(mask):
        return vector
    return op.node("Where", op.array(mask, "bool"), op.array(replacement, "int64"), vector)
