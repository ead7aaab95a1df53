"""Reading images at computed places (MIL operations `resample` and `affine`)."""

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

SAMPLING_MODES = {"bilinear": "linear", "nearest": "nearest"}
PADDING_MODES = {"constant": "zeros", "border": "border", "reflection": "border", "symmetric": "border"}
"""ONNX's padding by MIL's; what mirrors is computed before, since ONNX rounds to a pixel before it mirrors."""


@operation("resample")
def resample(op: MilOperation) -> str:
    """The image at the coordinates (x, y), one image per set of coordinates"""
    op.ignore("padding_value")
    sampling, padding = op.text("sampling_mode"), op.text("padding_mode")
    if sampling not in SAMPLING_MODES or padding not in PADDING_MODES:
        op.refuse(f"sampling_mode '{sampling}' with padding_mode '{padding}'")
    shape = op.node("Shape", op.tensor("x"))
    sizes = op.cast(op.node("Gather", shape, op.array([3, 2], "int64")), "float32")
    pixels = _pixels(op, sizes)
    if padding == "reflection":
        last = op.node("Sub", sizes, op.array(1, "float32"))
        pixels = reflected(op, pixels, op.array(0, "float32"), last)
    elif padding == "symmetric":
        pixels = reflected(op, pixels, op.array(-0.5, "float32"), sizes)
    if sampling == "nearest":
        pixels = op.node("Round", pixels)
    # ONNX counts from -1 to 1 between the edges of the outer pixels.
    grid = op.node("Mul", op.node("Add", pixels, op.array(0.5, "float32")), op.array(2, "float32"))
    grid = op.node("Sub", op.node("Div", grid, sizes), op.array(1, "float32"))
    modes = {"mode": SAMPLING_MODES[sampling], "padding_mode": PADDING_MODES[padding]}
    if padding != "constant":
        return op.node("GridSample", op.tensor("x"), grid, **modes)
    # ONNX pads with zeros only: the image is moved there and back.
    value = op.like("x", op.number("padding_value", 0.0))
    return op.node("Add", op.node("GridSample", op.node("Sub", op.tensor("x"), value), grid, **modes), value)


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


def reflected(op: MilOperation, points: str, low: str, extent: str) -> str:
    """Points mirrored at `low` and at `low + extent` as often as it takes; an extent of 0 leaves `low`."""
    period = op.node("Mul", extent, op.array(2, "float32"))
    # The remainder of a division by 0 would be no number.
    divisor = op.node("Max", period, op.array(1e-6, "float32"))
    rest = op.node("Mod", op.node("Abs", op.node("Sub", points, low)), divisor, fmod=1)
    rest = op.node("Max", op.node("Min", rest, op.node("Sub", period, rest)), op.array(0, "float32"))
    return op.node("Add", rest, low)


def _pixels(op: MilOperation, sizes: str) -> str:
    """The coordinates (x, y) as pixel positions: 0 is the middle of the first; `sizes` are (width, height)."""
    mode, aligned = op.text("coordinates_mode"), op.flag("align_corners")
    coordinates = op.tensor_as("coordinates", "float32")
    if mode == "unnormalized":
        return coordinates
    if mode == "normalized_minus_one_to_one":
        coordinates = op.node("Add", coordinates, op.array(1, "float32"))
        coordinates = op.node("Mul", coordinates, op.array(0.5, "float32"))
    elif mode != "normalized_zero_to_one":
        op.refuse(f"coordinates_mode '{mode}'")
    # From the middle of the first pixel to that of the last one, or from edge to edge.
    one, half = op.array(1, "float32"), op.array(0.5, "float32")
    if aligned:
        return op.node("Mul", coordinates, op.node("Sub", sizes, one))
    return op.node("Sub", op.node("Mul", coordinates, sizes), half)
