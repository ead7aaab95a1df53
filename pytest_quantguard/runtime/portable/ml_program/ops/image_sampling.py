"""Reading images at computed places (MIL operations `resample` and `affine`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

PADDING_MODES = {"constant": "zeros", "border": "border", "reflection": "reflection", "symmetric": "reflection"}
SAMPLING_MODES = {"bilinear": "linear", "nearest": "nearest"}


@operation("resample")
def resample(op: MilOperation) -> str:
    """The image at the coordinates (x, y), one image per set of coordinates"""
    op.ignore("padding_value")
    sampling, padding = op.text("sampling_mode"), op.text("padding_mode")
    reflected = padding in ("reflection", "symmetric")
    # onnxruntime rounds to the nearest pixel before it reflects, Core ML after: halfway they differ.
    if sampling not in SAMPLING_MODES or padding not in PADDING_MODES or (reflected and sampling == "nearest"):
        op.refuse(f"sampling_mode '{sampling}' with padding_mode '{padding}'")
    height, width = op.static_shape("x")[2:]
    sizes = np.array([width, height], np.float32)
    scale, shift = _to_pixels(op, sizes)
    # ONNX reflects at the middle of the outer pixels if corners are aligned, and else at their edges.
    aligned = padding == "reflection"
    if aligned and min(height, width) < 2:
        op.refuse("reflection of an image of one row or column")
    to_grid = 2 / (sizes - 1) if aligned else 2 / sizes
    offset = -1 if aligned else 1 / sizes - 1
    grid = op.node("Mul", op.cast(op.tensor("coordinates"), "float32"), op.array(scale * to_grid, "float32"))
    grid = op.node("Add", grid, op.array(shift * to_grid + offset, "float32"))
    # ONNX pads with zeros only: the image is moved there and back.
    value = op.like("x", op.number("padding_value", 0.0) if padding == "constant" else 0.0)
    moved = op.node("Sub", op.tensor("x"), value)
    modes = {"mode": SAMPLING_MODES[sampling], "padding_mode": PADDING_MODES[padding]}
    return op.node("Add", op.node("GridSample", moved, grid, align_corners=int(aligned), **modes), value)


@operation("affine")
def affine(op: MilOperation) -> str:
    """The image at linearly transformed coordinates; only what coremltools 9.0 allows to be written"""
    for parameter, expected in (
        ("sampling_mode", "bilinear"),
        ("padding_mode", "constant"),
        ("coordinates_mode", "normalized_minus_one_to_one"),
    ):
        if op.text(parameter).lower() != expected:
            op.refuse(f"{parameter} '{op.text(parameter)}'")
    if op.number("padding_value") != 0 or not op.flag("align_corners"):
        op.refuse("a padding_value other than 0, or align_corners being false,")
    height, width = op.integer("output_height"), op.integer("output_width")
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    places = np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    matrices = op.node("Reshape", op.tensor("transform_matrix"), op.array([-1, 2, 3], "int64"))
    grid = op.node("Transpose", op.node("MatMul", matrices, op.array(places, "float32")), perm=[0, 2, 1])
    grid = op.node("Reshape", grid, op.array([-1, height, width, 2], "int64"))
    batch = op.node("Shape", op.tensor("x"), start=0, end=1)
    shape = op.node("Concat", batch, op.array([height, width, 2], "int64"), axis=0)
    return op.node("GridSample", op.tensor("x"), op.node("Expand", grid, shape), mode="linear", align_corners=1)


def _to_pixels(op: MilOperation, sizes: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Factor and offset that turn coordinates (x, y) into pixel positions, where 0 is the middle of the first."""
    mode, aligned = op.text("coordinates_mode"), op.flag("align_corners")
    extent = sizes - 1 if aligned else sizes
    edge = np.zeros(2) if aligned else np.full(2, -0.5)
    if mode == "unnormalized":
        return np.ones(2), np.zeros(2)
    if mode == "normalized_zero_to_one":
        return extent, edge
    if mode == "normalized_minus_one_to_one":
        return extent / 2, extent / 2 + edge
    op.refuse(f"coordinates_mode '{mode}'")
