"""Reading and writing at computed places (MIL family `scatter_gather`)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

REDUCTIONS = {"update": "none", "add": "add", "sub": "add", "mul": "mul", "div": "mul", "max": "max", "min": "min"}
"""ONNX's reduction by MIL mode; for `sub` and `div` the updates are inverted first."""


@operation("gather")
def gather(op: MilOperation) -> str:
    """Slices of x along an axis; `batch_dims` leading dimensions are shared by x and the indices"""
    op.ignore("validate_indices")
    rank = op.rank("x")
    axis, batch_dims = op.axis("axis", rank, 0), op.integer("batch_dims", 0)
    x, indices = op.tensor("x"), op.int64("indices")
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
    op.ignore("validate_indices")
    axis = op.axis("axis", op.rank("x"), 0)
    return op.node("GatherElements", op.tensor("x"), op.int64("indices"), axis=axis)


@operation("gather_nd")
def gather_nd(op: MilOperation) -> str:
    """Slices of x at places given by the last dimension of the indices"""
    op.ignore("validate_indices")
    return op.node("GatherND", op.tensor("x"), op.int64("indices"), batch_dims=op.integer("batch_dims", 0))


@operation("scatter")
def scatter(op: MilOperation) -> str:
    """Updates written to slices of the data along an axis"""
    op.ignore("validate_indices")
    rank = op.rank("data")
    axis = op.axis("axis", rank, 0)
    updates, reduction = _updates(op)
    shape = [1] * rank
    shape[axis] = -1
    places = op.node("Reshape", op.int64("indices"), op.array(shape, "int64"))
    places = op.node("Expand", places, op.node("Shape", updates))
    return op.node("ScatterElements", op.tensor("data"), places, updates, axis=axis, reduction=reduction)


@operation("scatter_along_axis")
def scatter_along_axis(op: MilOperation) -> str:
    """numpy's put_along_axis, with a mode"""
    op.ignore("validate_indices")
    axis = op.axis("axis", op.rank("data"), 0)
    updates, reduction = _updates(op)
    return op.node(
        "ScatterElements", op.tensor("data"), op.int64("indices"), updates, axis=axis, reduction=reduction
    )


@operation("scatter_nd")
def scatter_nd(op: MilOperation) -> str:
    """Updates written to slices of the data at places given by the last dimension of the indices"""
    op.ignore("validate_indices")
    updates, reduction = _updates(op)
    return op.node("ScatterND", op.tensor("data"), op.int64("indices"), updates, reduction=reduction)


def _updates(op: MilOperation) -> tuple[str, str]:
    """The updates and ONNX's reduction for the operation's mode."""
    mode = op.text("mode", "add")
    if mode not in REDUCTIONS or (mode == "div" and not op.is_float("updates")):
        op.refuse(f"mode '{mode}'")
    updates = op.tensor("updates")
    if mode == "sub":
        updates = op.node("Neg", updates)
    if mode == "div":
        updates = op.node("Reciprocal", updates)
    return updates, REDUCTIONS[mode]
