"""Resizing images (MIL family `image_resizing`).

The grids are those in the docstrings of `resize_bilinear` and `upsample_bilinear`. Nearest neighbour follows
coremltools' tests: the `upsample` operation reads the pixel at floor(i * in / out), the `resize` operations read
the one at floor((i + 0.5) * in / out).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

COORDINATES = {
    "DEFAULT": "asymmetric",
    "STRICT_ALIGN_CORNERS": "align_corners",
    "ALIGN_CORNERS": "align_corners",
    "UNALIGN_CORNERS": "half_pixel",
}
"""ONNX's coordinate transformation by MIL's sampling mode, as far as ONNX has it."""


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
    for axis, factor in zip((-2, -1), factors, strict=True):
        result = op.node("Gather", result, op.array(_upsampled_places(op, axis, factor), "int64"), axis=axis)
    return result


@operation("resize_nearest_neighbor")
def resize_nearest_neighbor(op: MilOperation) -> str:
    """Height and width of a given size, nearest pixel"""
    return _nearest(op, [op.integer("target_size_height"), op.integer("target_size_width")])


@operation("upsample_bilinear")
def upsample_bilinear(op: MilOperation) -> str:
    """Height and width times a factor, linear; the factor is computed anew from the rounded size"""
    align = op.flag("align_corners", True)
    half_pixel = op.flag("half_pixel_centers", not align)
    if align and half_pixel:
        op.refuse("align_corners together with half_pixel_centers")
    factors = (op.number("scale_factor_height", 1), op.number("scale_factor_width", 1))
    sizes = [_scaled(op, axis, factor) for axis, factor in zip((-2, -1), factors, strict=True)]
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    return _linear(op, sizes, mode)


@operation("resize_bilinear")
def resize_bilinear(op: MilOperation) -> str:
    """Height and width of a given size, linear"""
    sizes = [op.integer("target_size_height", 1), op.integer("target_size_width", 1)]
    return _linear(op, sizes, op.text("sampling_mode", "DEFAULT"))


@operation("resize")
def resize(op: MilOperation) -> str:
    """The last dimensions of a given size, linear or nearest (iOS 17); a size of 0 keeps the dimension"""
    count = op.integer("resized_dims")
    mode, sampling = op.text("interpolation_mode", "LINEAR"), op.text("sampling_mode", "DEFAULT")
    if mode != "LINEAR" and (mode != "NEAREST_NEIGHBOR" or sampling != "DEFAULT"):
        op.refuse(f"interpolation_mode '{mode}' with sampling_mode '{sampling}'")
    if not op.is_constant("shape"):
        return _resize_to(op, _dynamic_sizes(op, count), mode, sampling)
    shape = op.shape("x")
    sizes = op.integers("shape")[-count:]
    for index in range(len(sizes)):
        kept = shape[len(shape) - len(sizes) + index]
        if sizes[index] == 0:
            sizes[index] = kept if kept is not None else op.refuse("a size of 0 for a flexible dimension")
    return _linear(op, sizes, sampling) if mode == "LINEAR" else _nearest(op, sizes)


def _dynamic_sizes(op: MilOperation, count: int) -> str:
    """All sizes of the result, of which the last ones are computed by the program."""
    rank = op.rank("x")
    last = op.node("Slice", op.int64("shape"), op.array([-count], "int64"), op.array([2**31 - 1], "int64"))
    old = op.node("Shape", op.tensor("x"))
    kept = op.node("Slice", old, op.array([rank - count], "int64"), op.array([rank], "int64"))
    last = op.node("Where", op.node("Equal", last, op.array([0], "int64")), kept, last)
    if count == rank:
        return last
    first = op.node("Slice", old, op.array([0], "int64"), op.array([rank - count], "int64"))
    return op.node("Concat", first, last, axis=0)


def _resize_to(op: MilOperation, sizes: str, mode: str, sampling: str) -> str:
    """ONNX's Resize, for sizes that may be known at run time only."""
    if sampling not in COORDINATES:
        op.refuse(f"sampling_mode '{sampling}'")
    linear = mode == "LINEAR"
    return op.node(
        "Resize",
        op.tensor("x"),
        "",
        "",
        sizes,
        mode="linear" if linear else "nearest",
        coordinate_transformation_mode=COORDINATES[sampling] if linear else "half_pixel",
        nearest_mode="round_prefer_ceil",
    )


def _nearest(op: MilOperation, sizes: Sequence[int]) -> str:
    """The last dimensions in new sizes, the pixel whose centre is nearest."""
    result = op.tensor("x")
    shape = op.shape("x")[-len(sizes) :]
    for axis, (old, new) in enumerate(zip(shape, sizes, strict=True), -len(sizes)):
        if old is None:
            op.refuse("a flexible shape")
        # floor((i + 0.5) * old / new) in whole numbers, so that halves cannot be rounded wrongly
        places = (2 * np.arange(new) + 1) * old // (2 * new)
        result = op.node("Gather", result, op.array(places, "int64"), axis=axis)
    return result


def _upsampled_places(op: MilOperation, axis: int, factor: float) -> NDArray[np.int64]:
    """Which pixels a dimension times a fractional factor repeats."""
    size = op.shape("x")[axis]
    new = _scaled(op, axis, factor)
    assert size is not None
    # By the rounded sizes, not by the factor: coremltools' test of fractional scales tells them apart.
    return np.asarray(np.arange(new) * size // new)


def _scaled(op: MilOperation, axis: int, factor: float) -> int:
    size = op.shape("x")[axis]
    if size is None:
        op.refuse("a flexible shape")
    return math.floor(size * factor)


def _linear(op: MilOperation, sizes: Sequence[int], mode: str) -> str:
    """The last dimensions in new sizes, linear between the nearest pixels."""
    x, shape = op.tensor("x"), op.shape("x")
    if mode != "OFFSET_CORNERS" and mode not in COORDINATES:
        op.refuse(f"sampling_mode '{mode}'")
    if mode == "OFFSET_CORNERS" or 1 in sizes:
        return _by_matrices(op, x, sizes, mode)
    kept = op.node("Shape", x, start=0, end=len(shape) - len(sizes))
    return _resize_to(op, op.node("Concat", kept, op.array(sizes, "int64"), axis=0), "LINEAR", mode)


def _by_matrices(op: MilOperation, x: str, sizes: Sequence[int], mode: str) -> str:
    """Linear interpolation as one matrix product per dimension."""
    rank = op.rank("x")
    for axis, new in enumerate(sizes, rank - len(sizes)):
        old = op.shape("x")[axis]
        if old is None:
            op.refuse("a flexible shape")
        if old == new == 1:
            continue
        order = [*(d for d in range(rank) if d != axis), axis]
        moved = op.node("Transpose", x, perm=order)
        moved = op.node("MatMul", moved, op.array(interpolation_matrix(old, new, mode).T, "float32"))
        x = op.node("Transpose", moved, perm=[order.index(d) for d in range(rank)])
    return x


def interpolation_matrix(old: int, new: int, mode: str) -> NDArray[np.float64]:
    """The weights, shape (new, old), of linear interpolation at the grid points of a sampling mode."""
    index = np.arange(new, dtype=np.float64)
    if mode == "OFFSET_CORNERS":
        points = (index + 0.5) * max(1, old - 1) / new
    elif mode == "UNALIGN_CORNERS":
        points = (index + 0.5) * old / new - 0.5
    elif mode == "DEFAULT":
        points = index * old / new
    elif new == 1:
        points = np.array([(old - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
    else:
        points = index * (old - 1) / (new - 1)
    points = np.clip(points, 0, old - 1)
    left = np.minimum(np.floor(points), max(old - 2, 0)).astype(np.int64)
    weights = np.zeros((new, old))
    weights[np.arange(new), left] = 1 - (points - left)
    weights[np.arange(new), np.minimum(left + 1, old - 1)] += points - left
    return weights
