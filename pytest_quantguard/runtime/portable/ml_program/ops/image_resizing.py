"""Resizing images (MIL family `image_resizing`).

The grids are those in the docstrings of `resize_bilinear` and `upsample_bilinear`. Nearest neighbour follows
coremltools' tests: the `upsample` operation reads the pixel at floor(i * in / out), the `resize` operations read
the one at floor((i + 0.5) * in / out).
"""

from collections.abc import Sequence

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

COORDINATES = {
    "DEFAULT": "asymmetric",
    "STRICT_ALIGN_CORNERS": "align_corners",
    "UNALIGN_CORNERS": "half_pixel",
}
"""ONNX's coordinate transformation by MIL's sampling mode, as far as ONNX has it."""

SAMPLING_MODES = {*COORDINATES, "ALIGN_CORNERS", "OFFSET_CORNERS"}


@operation("upsample_nearest_neighbor")
def upsample_nearest_neighbor(op: MilOperation) -> str:
    """Height and width times a factor, nearest pixel"""
    factors = [op.number("scale_factor_height", 1), op.number("scale_factor_width", 1)]
    if all(factor.is_integer() for factor in factors):
        scales = op.array([1] * (op.rank("x") - 2) + factors, "float32")
        return op.node(
            "Resize",
            op.tensor("x"),
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    result = op.tensor("x")
    for axis, new in zip((-2, -1), _scaled(op, factors), strict=True):
        # By the rounded sizes, not by the factor: coremltools' test of fractional scales tells them apart.
        places = op.node("Div", op.node("Mul", op.count(new), op.size(op.tensor("x"), axis)), new)
        result = op.node("Gather", result, places, axis=axis)
    return result


@operation("resize_nearest_neighbor")
def resize_nearest_neighbor(op: MilOperation) -> str:
    """Height and width of a given size, nearest pixel"""
    return _nearest(op, _targets(op), "DEFAULT")


@operation("upsample_bilinear")
def upsample_bilinear(op: MilOperation) -> str:
    """Height and width times a factor, linear; the factor is computed anew from the rounded size"""
    align = op.flag("align_corners", True)
    half_pixel = op.flag("half_pixel_centers", not align)
    if align and half_pixel:
        op.refuse("align_corners together with half_pixel_centers")
    factors = [op.number("scale_factor_height", 1), op.number("scale_factor_width", 1)]
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    return _linear(op, _scaled(op, factors), mode)


@operation("resize_bilinear")
def resize_bilinear(op: MilOperation) -> str:
    """Height and width of a given size, linear"""
    return _linear(op, _targets(op), op.text("sampling_mode", "DEFAULT"))


@operation("resize")
def resize(op: MilOperation) -> str:
    """The last dimensions of a given size, linear or nearest (iOS 17); a size of 0 keeps the dimension"""
    count = op.integer("resized_dims")
    mode, sampling = op.text("interpolation_mode", "LINEAR"), op.text("sampling_mode", "DEFAULT")
    shape, x = op.int64("shape"), op.tensor("x")
    sizes = []
    for axis in range(-count, 0):
        size = op.node("Gather", shape, op.array(axis, "int64"))
        kept = op.node("Equal", size, op.array(0, "int64"))
        sizes.append(op.node("Where", kept, op.size(x, axis), size))
    if mode == "NEAREST_NEIGHBOR":
        return _nearest(op, sizes, sampling)
    if mode != "LINEAR":
        op.refuse(f"interpolation_mode '{mode}'")
    return _linear(op, sizes, sampling)


def _targets(op: MilOperation) -> list[str]:
    """The given height and width."""
    names = ("target_size_height", "target_size_width")
    return [op.array(op.integer(name, 1), "int64") for name in names]


def _scaled(op: MilOperation, factors: Sequence[float]) -> list[str]:
    """Height and width times factors, rounded down."""
    sizes = []
    for axis, factor in zip((-2, -1), factors, strict=True):
        size = op.cast(op.size(op.tensor("x"), axis), "float64")
        sizes.append(op.cast(op.node("Floor", op.node("Mul", size, op.array(factor, "float64"))), "int64"))
    return sizes


def _nearest(op: MilOperation, sizes: Sequence[str], sampling: str) -> str:
    """The last dimensions in new sizes, the pixel that is nearest to each point of the grid."""
    result = op.tensor("x")
    for axis, new in enumerate(sizes, -len(sizes)):
        old = op.size(op.tensor("x"), axis)
        if sampling == "DEFAULT":
            # floor((i + 0.5) * old / new) in whole numbers, so that halves cannot be rounded wrongly
            two = op.array(2, "int64")
            middle = op.node("Add", op.node("Mul", op.count(new), two), op.array(1, "int64"))
            places = op.node("Div", op.node("Mul", middle, old), op.node("Mul", new, two))
        else:
            points = op.node("Add", _grid(op, old, new, sampling), op.array(0.5, "float32"))
            places = op.cast(op.node("Floor", points), "int64")
        result = op.node("Gather", result, places, axis=axis)
    return result


def _linear(op: MilOperation, sizes: Sequence[str], sampling: str) -> str:
    """The last dimensions in new sizes, linear between the nearest pixels."""
    x, rank = op.tensor("x"), op.rank("x")
    if sampling in COORDINATES and rank == 4 and len(sizes) <= 2 and op.is_float("x"):
        kept = op.node("Shape", x, start=0, end=rank - len(sizes))
        changed = [op.node("Unsqueeze", size, op.array([0], "int64")) for size in sizes]
        target = op.node("Concat", kept, *changed, axis=0)
        coordinates = COORDINATES[sampling]
        return op.node("Resize", x, "", "", target, mode="linear", coordinate_transformation_mode=coordinates)
    result = op.tensor_as("x", "float32")
    for axis, new in enumerate(sizes, rank - len(sizes)):
        result = _interpolated(op, result, axis, _grid(op, op.size(x, axis), new, sampling))
    return result if op.is_float("x") else op.cast(result, op.computed_type("x"))


def _interpolated(op: MilOperation, tensor: str, axis: int, points: str) -> str:
    """A tensor at points along an axis."""
    before = op.node("Floor", points)
    share = op.node("Sub", points, before)
    shape = [1] * op.rank("x")
    shape[axis] = -1
    share = op.node("Reshape", share, op.array(shape, "int64"))
    # Of a point on the last pixel the pixel after does not count.
    after = op.cast(op.node("Ceil", points), "int64")
    low = op.node("Gather", tensor, op.cast(before, "int64"), axis=axis)
    high = op.node("Gather", tensor, after, axis=axis)
    return op.node("Add", low, op.node("Mul", op.node("Sub", high, low), share))


def _grid(op: MilOperation, old: str, new: str, sampling: str) -> str:
    """The points of a sampling mode in a dimension, 0 being the middle of the first pixel."""
    if sampling not in SAMPLING_MODES:
        op.refuse(f"sampling_mode '{sampling}'")
    zero, half, one = (op.array(number, "float32") for number in (0, 0.5, 1))
    index, pixels, count = (op.cast(number, "float32") for number in (op.count(new), old, new))
    last = op.node("Sub", pixels, one)
    middles = op.node("Add", index, half)
    if sampling == "OFFSET_CORNERS":
        points = op.node("Div", op.node("Mul", middles, op.node("Max", last, one)), count)
    elif sampling == "UNALIGN_CORNERS":
        points = op.node("Sub", op.node("Div", op.node("Mul", middles, pixels), count), half)
    elif sampling == "DEFAULT":
        points = op.node("Div", op.node("Mul", index, pixels), count)
    else:
        steps = op.node("Max", op.node("Sub", count, one), one)
        points = op.node("Div", op.node("Mul", index, last), steps)
    if sampling == "ALIGN_CORNERS":
        # A single point lies in the middle.
        points = op.node("Where", op.node("Equal", count, one), op.node("Mul", last, half), points)
    return op.node("Max", op.node("Min", points, last), zero)
