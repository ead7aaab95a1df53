"""Making, joining and sorting tensors (MIL family `tensor_operation`)."""

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


@operation("identity")
def identity(op: MilOperation) -> str:
    """x"""
    return op.tensor("x")


@operation("shape")
def shape(op: MilOperation) -> str | NDArray[np.int32]:
    """The sizes of x, known now if no dimension is flexible"""
    sizes = [size for size in op.shape("x") if size is not None]
    if len(sizes) == op.rank("x"):
        return np.array(sizes, np.int32)
    return op.cast(op.node("Shape", op.tensor("x")), "int32")


@operation("fill")
def fill(op: MilOperation) -> str:
    """A tensor of a shape, filled with one value"""
    value = op.tensor("value") if op.has("value") else op.array(0, "float32")
    return op.node("Expand", value, op.int64("shape"))


@operation("fill_like")
def fill_like(op: MilOperation) -> str:
    """A tensor of another tensor's shape, filled with one value"""
    value = op.tensor("value") if op.has("value") else op.array(0, "float32")
    return op.node("Expand", value, op.node("Shape", op.tensor("ref_tensor")))


@operation("range_1d")
def range_1d(op: MilOperation) -> str:
    """start, start + step, ... up to but not including end"""
    return op.node("Range", op.tensor("start"), op.tensor("end"), op.tensor("step"))


@operation("one_hot")
def one_hot(op: MilOperation) -> str:
    """on_value at the place that the index names along a new axis, off_value elsewhere"""
    rank = op.rank("indices") + 1
    axis = op.axis("axis", rank, -1)
    indices = op.node("Unsqueeze", op.int64("indices"), op.array([axis], "int64"))
    size = op.node("Squeeze", op.int64("one_hot_vector_size"))
    broadcast = [1] * rank
    broadcast[axis] = -1
    places = op.node("Reshape", op.count(size), op.array(broadcast, "int64"))
    on = op.tensor("on_value") if op.has("on_value") else op.array(1, "int32")
    off = op.tensor("off_value") if op.has("off_value") else op.array(0, "int32")
    chosen = op.node("Equal", indices, places)
    if op.has("on_value") and op.computed_type("on_value") == "bool":
        not_chosen = op.node("And", op.node("Not", chosen), off)
        return op.node("Or", op.node("And", chosen, on), not_chosen)
    return op.node("Where", chosen, on, off)


@operation("band_part")
def band_part(op: MilOperation) -> str:
    """The last two dimensions with zeros outside a band of diagonals; a negative width keeps that side"""
    x = op.tensor("x")
    lower, upper = op.integer("lower", -1), op.integer("upper", -1)
    rows, columns = (op.count(op.size(x, axis)) for axis in (-2, -1))
    below = op.node("Sub", op.node("Unsqueeze", rows, op.array([1], "int64")), columns)
    kept = op.array(True, "bool")
    if lower >= 0:
        kept = op.node("LessOrEqual", below, op.array(lower, "int64"))
    if upper >= 0:
        kept = op.node("And", kept, op.node("GreaterOrEqual", below, op.array(-upper, "int64")))
    if op.computed_type("x") == "bool":
        return op.node("And", x, kept)
    return op.node("Where", kept, x, op.like("x", 0))


@operation("pad")
def pad(op: MilOperation) -> str:
    """Elements added at both ends of the last dimensions"""
    mode = op.text("mode", "constant")
    if mode not in PAD_MODES:
        op.refuse(f"mode '{mode}'")
    op.ignore("constant_val")
    count = op.shape("pad")[0]
    if count is None:
        op.refuse("a flexible number of paddings")
    # MIL has (before, after) per dimension, ONNX all befores, then all afters.
    pairs = op.node("Reshape", op.int64("pad"), op.array([-1, 2], "int64"))
    pads = op.node("Reshape", op.node("Transpose", pairs, perm=[1, 0]), op.array([-1], "int64"))
    rank = op.rank("x")
    axes = op.array(range(rank - count // 2, rank), "int64")
    value = op.number("constant_val", 0.0) if mode == "constant" else 0.0
    return op.node("Pad", op.tensor("x"), pads, op.like("x", value), axes, mode=PAD_MODES[mode])


@operation("tile")
def tile(op: MilOperation) -> str:
    """x repeated along each dimension"""
    return op.node("Tile", op.tensor("x"), op.int64("reps"))


@operation("concat")
def concat(op: MilOperation) -> str:
    """Tensors joined along an axis, one after the other or element by element"""
    rank = op.rank("values")
    tensors = op.tensors("values")
    axis = op.axis("axis", rank)
    if rank == 0:
        tensors = [op.node("Unsqueeze", tensor, op.array([0], "int64")) for tensor in tensors]
    if not op.flag("interleave"):
        return op.node("Concat", *tensors, axis=axis)
    stacked = [op.node("Unsqueeze", tensor, op.array([axis + 1], "int64")) for tensor in tensors]
    joined = op.node("Concat", *stacked, axis=axis + 1)
    sizes = op.node("Shape", tensors[0])
    longer = op.array([len(tensors) if index == axis else 1 for index in range(rank)], "int64")
    return op.node("Reshape", joined, op.node("Mul", sizes, longer))


@operation("stack")
def stack(op: MilOperation) -> str:
    """Tensors joined along a new axis"""
    axis = op.axis("axis", op.rank("values") + 1)
    expanded = [op.node("Unsqueeze", tensor, op.array([axis], "int64")) for tensor in op.tensors("values")]
    return op.node("Concat", *expanded, axis=axis)


@operation("cumsum")
def cumsum(op: MilOperation) -> str:
    """The running sum along an axis"""
    axis = op.array(op.axis("axis", op.rank("x"), 0), "int64")
    exclusive, backwards = op.flag("exclusive"), op.flag("reverse")
    return op.node("CumSum", op.tensor("x"), axis, exclusive=int(exclusive), reverse=int(backwards))


@operation("topk")
def topk(op: MilOperation) -> list[str]:
    """The k largest (or smallest) values along an axis, sorted, and their places"""
    op.ignore("sort", "output_indices_dtype")
    axis = op.axis("axis", op.rank("x"), -1)
    k = op.integer("k", 1)
    values, places = _sorted(op, axis, k if k >= 0 else None)
    return [values, op.cast(places, "int32")] if op.flag("return_indices", True) else [values]


@operation("argsort")
def argsort(op: MilOperation) -> str:
    """The places of the values along an axis in descending (or ascending) order"""
    return op.cast(_sorted(op, op.axis("axis", op.rank("x"), -1), None)[1], "int32")


@operation("non_zero")
def non_zero(op: MilOperation) -> str:
    """The places of the elements that are not zero, one per row"""
    return op.cast(op.node("Transpose", op.node("NonZero", op.tensor("x")), perm=[1, 0]), "int32")


def _sorted(op: MilOperation, axis: int, k: int | None) -> list[str]:
    """Values and places of the first k, or all, elements in order."""
    x = op.tensor("x")
    count = op.node("Shape", x, start=axis, end=axis + 1) if k is None else op.array([k], "int64")
    return op.nodes("TopK", [x, count], 2, axis=axis, largest=int(not op.flag("ascending")))
