"""Reading and writing at computed places (MIL family `scatter_gather`).

Up to iOS 16 negative indices count from the end. From iOS 17 on they are outside, and what happens to indices
outside is undefined; with `validate_indices` they are an error. Here reading takes the nearest place inside, and
still counts negative indices from the end; writing drops what goes outside, as coremltools' tests expect.
"""

from collections.abc import Sequence

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

IOS17_OPSET = 7
REDUCTIONS = {"update": "none", "add": "add", "sub": "add", "mul": "mul", "div": "mul", "max": "max", "min": "min"}
"""ONNX's reduction by MIL mode; for `sub` the updates are negated, for `div` their product divides the data."""


@operation("gather")
def gather(op: MilOperation) -> str:
    """Slices of x along an axis; `batch_dims` leading dimensions are shared by x and the indices"""
    rank = op.rank("x")
    axis, batch_dims = op.axis("axis", rank, 0), op.integer("batch_dims", 0)
    x, indices = op.tensor("x"), _readable(op, [axis])
    if not batch_dims:
        return op.node("Gather", x, indices, axis=axis)
    # The axis moves behind the batch dimensions, where GatherND reads it.
    if axis != batch_dims:
        order = [*range(batch_dims), axis, *(d for d in range(batch_dims, rank) if d != axis)]
        x = op.node("Transpose", x, perm=order)
    places = op.node("Unsqueeze", indices, op.array([-1], "int64"))
    result = op.node("GatherND", x, places, batch_dims=batch_dims)
    if axis == batch_dims:
        return result
    # From (batch, indices, before, after) to (batch, before, indices, after).
    indexed, before = op.rank("indices") - batch_dims, axis - batch_dims
    end = batch_dims + indexed
    order = [*range(batch_dims), *range(end, end + before), *range(batch_dims, end)]
    order += range(end + before, rank - 1 + indexed)
    return op.node("Transpose", result, perm=order)


@operation("gather_along_axis")
def gather_along_axis(op: MilOperation) -> str:
    """numpy's take_along_axis"""
    axis = op.axis("axis", op.rank("x"), 0)
    return op.node("GatherElements", op.tensor("x"), _readable(op, [axis]), axis=axis)


@operation("gather_nd")
def gather_nd(op: MilOperation) -> str:
    """Slices of x at places given by the last dimension of the indices"""
    batch_dims = op.integer("batch_dims", 0)
    axes = range(batch_dims, batch_dims + _places_per_index(op))
    return op.node("GatherND", op.tensor("x"), _readable(op, axes), batch_dims=batch_dims)


@operation("scatter")
def scatter(op: MilOperation) -> str:
    """Updates written to slices of the data along an axis"""
    rank = op.rank("data")
    axis = op.axis("axis", rank, 0)
    shape = [1] * rank
    shape[axis] = -1
    places = op.node("Reshape", op.int64("indices"), op.array(shape, "int64"))
    places = op.node("Expand", places, op.node("Shape", op.tensor("updates")))
    return _written(op, "ScatterElements", places, [axis], {"axis": axis})


@operation("scatter_along_axis")
def scatter_along_axis(op: MilOperation) -> str:
    """numpy's put_along_axis, with a mode"""
    axis = op.axis("axis", op.rank("data"), 0)
    return _written(op, "ScatterElements", op.int64("indices"), [axis], {"axis": axis})


@operation("scatter_nd")
def scatter_nd(op: MilOperation) -> str:
    """Updates written to slices of the data at places given by the last dimension of the indices"""
    return _written(op, "ScatterND", op.int64("indices"), range(_places_per_index(op)), {})


def _places_per_index(op: MilOperation) -> int:
    count = op.shape("indices")[-1]
    return count if count is not None else op.refuse("a flexible number of places per index")


def _readable(op: MilOperation, axes: Sequence[int]) -> str:
    """The indices into some axes of x, without those that onnxruntime would not read."""
    indices = op.int64("indices")
    if op.opset < IOS17_OPSET or _known_inside(op, "x", axes):
        op.ignore("validate_indices")
        return indices
    sizes = _sizes(op, op.tensor("x"), axes)
    if op.flag("validate_indices"):
        return _strict(op, indices, sizes)
    last = op.node("Sub", sizes, op.array(1, "int64"))
    return op.node("Min", op.node("Max", indices, op.node("Neg", sizes)), last)


def _written(op: MilOperation, operator: str, places: str, axes: Sequence[int], attributes: dict[str, int]) -> str:
    """The data with the updates written to places on some axes."""
    data = op.tensor("data")
    if op.opset < IOS17_OPSET or _known_inside(op, "data", axes):
        op.ignore("validate_indices")
        return _combined(op, operator, data, places, attributes)
    sizes = _sizes(op, data, axes)
    if op.flag("validate_indices"):
        return _combined(op, operator, data, _strict(op, places, sizes), attributes)
    # What goes outside is written to a spare slice, which is cut off again.
    zero = op.array(0, "int64")
    outside = op.node("Or", op.node("Less", places, zero), op.node("GreaterOrEqual", places, sizes))
    spare = sizes
    if operator == "ScatterND":
        number = op.node("ReduceMax", op.cast(outside, "int32"), op.array([-1], "int64"), keepdims=1)
        outside = op.cast(number, "bool")
        spare = op.node("Mul", sizes, op.array([1, *[0] * (len(axes) - 1)], "int64"))
    places = op.node("Where", outside, spare, places)
    axis = op.array([axes[0]], "int64")
    longer = op.node("Pad", data, op.array([0, 1], "int64"), "", axis)
    result = _combined(op, operator, longer, places, attributes)
    return op.node("Slice", result, op.array([0], "int64"), op.array([-1], "int64"), axis)


def _combined(op: MilOperation, operator: str, data: str, places: str, attributes: dict[str, int]) -> str:
    """ONNX's ScatterElements or ScatterND in the operation's mode."""
    mode = op.text("mode", "add")
    if mode not in REDUCTIONS:
        op.refuse(f"mode '{mode}'")
    updates = op.tensor("updates")
    if mode == "sub":
        updates = op.node("Neg", updates)
    if mode == "div":
        ones = op.node("Expand", op.like("data", 1), op.node("Shape", data))
        return op.node("Div", data, op.node(operator, ones, places, updates, reduction="mul", **attributes))
    return op.node(operator, data, places, updates, reduction=REDUCTIONS[mode], **attributes)


def _known_inside(op: MilOperation, parameter: str, axes: Sequence[int]) -> bool:
    """Whether the indices are known, and none is negative or too large."""
    sizes = [op.shape(parameter)[axis] for axis in axes]
    if not op.is_constant("indices") or None in sizes:
        return False
    indices = op.constant("indices").astype(np.int64)
    return bool(np.all((indices >= 0) & (indices < np.array(sizes if len(sizes) > 1 else sizes[0]))))


def _sizes(op: MilOperation, tensor: str, axes: Sequence[int]) -> str:
    """The sizes of some axes: a number for one axis, and else a vector."""
    picked = op.array(list(axes) if len(axes) > 1 else axes[0], "int64")
    return op.node("Gather", op.node("Shape", tensor), picked)


def _strict(op: MilOperation, indices: str, sizes: str) -> str:
    """Indices of which onnxruntime refuses the negative ones, too."""
    return op.node("Where", op.node("Less", indices, op.array(0, "int64")), sizes, indices)
