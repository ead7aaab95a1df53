"""Cutting boxes out of images and scaling them to one size (MIL operation `crop_resize`).

The sampling grids are those of `resize_bilinear` with the box in place of the image: where that says Xin - 1,
stands the extent of the box.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.ops.image_sampling import reflected
from pytest_quantguard.runtime.portable.ml_program.registry import operation

HEIGHT_FIRST = {"CORNERS_HEIGHT_FIRST", "CENTER_SIZE_HEIGHT_FIRST"}
CENTRED = {"CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"}
BOX_MODES = {*HEIGHT_FIRST, *CENTRED, "CORNERS_WIDTH_FIRST"}
UNALIGNED = "UNALIGN_CORNERS"


@operation("crop_resize")
def crop_resize(op: MilOperation) -> str:
    """Each box of an image, linear between the nearest pixels; outside of the image is `pad_value`

    Up to iOS 16 `roi` holds the boxes, with or without the image's number, and the result has an image dimension
    behind that of the boxes; from iOS 17 on there are `boxes` and `box_indices`.
    """
    op.ignore("pad_value", "box_indices")
    rois = op.has("roi")
    boxes, images = _rois(op) if rois else _boxes(op)
    sizes = op.node("Cast", op.node("Shape", op.tensor("x"), start=2, end=4), to=1)
    points = []
    for index, (start, end) in enumerate(_edges(op, boxes)):
        size = op.node("Slice", sizes, op.array([index], "int64"), op.array([index + 1], "int64"))
        count = op.integer(("target_height", "target_width")[index], 1)
        # (boxes, 1, rows, 1) and (boxes, 1, 1, columns)
        shape = [-1, 1, count, 1] if index == 0 else [-1, 1, 1, count]
        grid = op.node("Reshape", _grid(op, start, end, size, count), op.array(shape, "int64"))
        points.append((grid, size))
    result = _read(op, images, points)
    return result if rois else op.node("Squeeze", result, op.array([1], "int64"))


def _rois(op: MilOperation) -> tuple[str, str]:
    """Boxes (n, 4), and the images they are cut from, to broadcast to (boxes, images, rows, columns)."""
    values = op.static_shape("roi")[2]
    roi = op.node("Reshape", op.tensor("roi"), op.array([-1, values], "int64"))
    if values == 5:
        image, boxes = op.nodes("Split", [roi, op.array([1, 4], "int64")], 2, axis=1)
        return boxes, op.node("Reshape", op.cast(image, "int64"), op.array([-1, 1, 1, 1], "int64"))
    return roi, op.node("Reshape", op.count(op.size(op.tensor("x"), 0)), op.array([1, -1, 1, 1], "int64"))


def _boxes(op: MilOperation) -> tuple[str, str]:
    """As `_rois`, for the inputs of iOS 17."""
    boxes = op.tensor_as("boxes", "float32")
    images = op.int64("box_indices") if op.has("box_indices") else op.count(op.size(boxes, 0))
    return boxes, op.node("Reshape", images, op.array([-1, 1, 1, 1], "int64"))


def _edges(op: MilOperation, boxes: str) -> list[tuple[str, str]]:
    """(top, bottom) and (left, right) of the boxes, each (n, 1)."""
    mode = op.text("box_coordinate_mode", "CORNERS_HEIGHT_FIRST")
    if mode not in BOX_MODES:
        op.refuse(f"box_coordinate_mode '{mode}'")
    scaled = op.node("Mul", boxes, op.array(op.number("spatial_scale", 1.0), "float32"))
    first, second, third, fourth = op.nodes("Split", [scaled], 4, axis=1, num_outputs=4)
    pairs = [(first, third), (second, fourth)]
    if mode not in HEIGHT_FIRST:
        pairs.reverse()
    if mode in CENTRED:
        halves = [(centre, op.node("Mul", size, op.array(0.5, "float32"))) for centre, size in pairs]
        pairs = [(op.node("Sub", centre, half), op.node("Add", centre, half)) for centre, half in halves]
    return pairs


def _grid(op: MilOperation, start: str, end: str, size: str, count: int) -> str:
    """The points, shape (boxes, count), of a sampling mode between the edges of each box, in pixels."""
    mode = op.text("sampling_mode", "DEFAULT")
    index = np.arange(count, dtype=np.float32)
    unaligned = mode == UNALIGNED
    if op.flag("normalized_coordinates"):
        # Unaligned boxes are measured between the edges of the outer pixels, others between their centres.
        extent = size if unaligned else op.node("Sub", size, op.array(1, "float32"))
        start, end = op.node("Mul", start, extent), op.node("Mul", end, extent)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = np.full(1, 0.5 if mode == "ALIGN_CORNERS" else 0.0)
        return _between(op, start, end, np.linspace(0, 1, count) if count > 1 else alone)
    if unaligned:
        points = _between(op, start, end, (index + 0.5) / count)
        return op.node("Sub", points, op.array(0.5, "float32"))
    extent = op.node("Sub", end, start)
    if mode == "OFFSET_CORNERS":
        extent = op.node("Max", extent, op.array(1, "float32"))
        return op.node("Add", start, op.node("Mul", extent, op.array((index + 0.5) / count, "float32")))
    if mode != "DEFAULT":
        op.refuse(f"sampling_mode '{mode}'")
    steps = op.node("Mul", op.node("Add", extent, op.array(1, "float32")), op.array(index / count, "float32"))
    return op.node("Min", op.node("Add", start, steps), op.node("Max", start, end))


def _between(op: MilOperation, start: str, end: str, shares: NDArray[Any]) -> str:
    """start * (1 - share) + end * share, which is exact at both edges."""
    first = op.node("Mul", start, op.array(1 - shares, "float32"))
    return op.node("Add", first, op.node("Mul", end, op.array(shares, "float32")))


def _read(op: MilOperation, images: str, points: list[tuple[str, str]]) -> str:
    """The pixels at the points, shape (boxes, images, channels, rows, columns)."""
    corners, shares, inside = zip(*(_corners(op, point, size) for point, size in points), strict=True)
    sizes = op.nodes("Split", [op.node("Shape", op.tensor("x"))], 4, axis=0, num_outputs=4)
    _, channels, height, width = sizes
    pixels = op.node("Concat", op.array([-1], "int64"), channels, axis=0)
    pixels = op.node("Reshape", op.node("Transpose", op.tensor("x"), perm=[0, 2, 3, 1]), pixels)
    first = op.node("Mul", images, height)
    rows: list[str] = []
    for row in corners[0]:
        line = op.node("Mul", op.node("Add", first, row), width)
        left, right = (op.node("Gather", pixels, op.node("Add", line, column), axis=0) for column in corners[1])
        rows.append(_blend(op, left, right, shares[1]))
    result = op.node("Transpose", _blend(op, rows[0], rows[1], shares[0]), perm=[0, 1, 4, 2, 3])
    known = op.node("Unsqueeze", op.node("And", *inside), op.array([2], "int64"))
    return op.node("Where", known, result, op.array(op.number("pad_value", 0.0), "float32"))


def _corners(op: MilOperation, point: str, size: str) -> tuple[tuple[str, str], str, str]:
    """The places before and after a point, its distance from the first, and whether it lies in the image."""
    zero, one = op.array(0, "float32"), op.array(1, "float32")
    last = op.node("Sub", size, one)
    unaligned = op.text("sampling_mode", "DEFAULT") == UNALIGNED
    if unaligned and op.has("roi"):
        # As coremltools' tests for iOS 15 and iOS 16 expect, whatever pad_value says.
        point = reflected(op, point, op.array(-0.5, "float32"), size)
    # An unaligned image begins and ends half a pixel outside of the centres of its outer pixels.
    margin = 0.5 if unaligned else 0.0
    low, high = op.array(-margin, "float32"), op.node("Add", last, op.array(margin, "float32"))
    inside = op.node("And", op.node("GreaterOrEqual", point, low), op.node("LessOrEqual", point, high))
    point = op.node("Max", op.node("Min", point, last), zero)
    before = op.node("Floor", point)
    after = op.node("Min", op.node("Add", before, one), last)
    return (op.cast(before, "int64"), op.cast(after, "int64")), op.node("Sub", point, before), inside


def _blend(op: MilOperation, first: str, second: str, share: str) -> str:
    weight = op.node("Unsqueeze", share, op.array([-1], "int64"))
    return op.node("Add", first, op.node("Mul", op.node("Sub", second, first), weight))
