"""Cutting boxes out of images and scaling them to one size."""

from collections.abc import Sequence

import numpy as np

from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer
from pytest_quantguard.runtime.portable.neural_network.spatial import checked_length


@layer("cropResize")
def crop_resize(net: Network, layer: Layer, x: Blob, boxes: Blob) -> Blob:
    """`CropResizeLayerParams`: bilinear between the pixels; what lies outside of the image repeats its border."""
    targets = layer.pair(layer.params.targetSize, 1)
    if x.rank != 5 or x.shape[0] != 1 or boxes.rank != 5 or boxes.shape[1:] not in ((1, 4, 1, 1), (1, 5, 1, 1)):
        raise layer.unsupported(f"inputs of shapes {x.shape} and {boxes.shape}")
    _, batch, _, *sizes = known(x.shape)
    number, values = known((boxes.shape[0], boxes.shape[2]))
    *which, first, second, third, fourth = net.nodes(
        "Split", [net.reshaped(boxes, (number, values))], values, axis=1, num_outputs=values
    )
    if which:
        chosen = net.node("Cast", which[0], to=ELEMENT_TYPES["int64"])
        images = net.node("Reshape", chosen, net.constant([number, 1, 1, 1]))
    else:
        images = net.constant(np.arange(batch).reshape(1, batch, 1, 1))
    edges = _edges(net, layer, [first, second, third, fourth])
    points = [
        _grid(net, layer, start, end, size, target)
        for (start, end), size, target in zip(edges, sizes, targets, strict=True)
    ]
    return net.blob(_read(net, x, images, points))


def _edges(net: Network, layer: Layer, columns: Sequence[str]) -> list[tuple[str, str]]:
    """(top, bottom) and (left, right) of the boxes (`BoxCoordinatesMode`), each (boxes, 1)."""
    mode = layer.params.boxIndicesMode
    first, second, third, fourth = columns
    pairs = [(first, third), (second, fourth)]
    if mode.boxMode in (mode.CENTER_SIZE_HEIGHT_FIRST, mode.CENTER_SIZE_WIDTH_FIRST):
        halves = [(centre, net.node("Mul", size, net.constant(0.5))) for centre, size in pairs]
        pairs = [(net.node("Sub", centre, half), net.node("Add", centre, half)) for centre, half in halves]
    elif mode.boxMode not in (mode.CORNERS_HEIGHT_FIRST, mode.CORNERS_WIDTH_FIRST):
        raise layer.unsupported(f"boxMode {mode.boxMode}")
    width_first = mode.boxMode in (mode.CORNERS_WIDTH_FIRST, mode.CENTER_SIZE_WIDTH_FIRST)
    return pairs[::-1] if width_first else pairs


def _grid(net: Network, layer: Layer, start: str, end: str, size: int, count: int) -> str:
    """Where the outputs lie on the input's pixels, (boxes, count) (`SamplingMode`).

    The box takes the place of the interval there: its extent is what is called X - 1.
    """
    params, mode = layer.params, layer.params.mode
    scale = net.constant((float(params.spatialScale) or 1.0) * (size - 1 if params.normalizedCoordinates else 1))
    start, end = net.node("Mul", start, scale), net.node("Mul", end, scale)
    extent = net.node("Sub", end, start)
    index = np.arange(checked_length(layer, count), dtype=np.float32)[None]
    if mode.samplingMethod in (mode.STRICT_ALIGN_ENDPOINTS_MODE, mode.ALIGN_ENDPOINTS_MODE):
        alone = 0.5 if mode.samplingMethod == mode.ALIGN_ENDPOINTS_MODE else 0.0
        share = index / (count - 1) if count > 1 else np.full((1, 1), alone, np.float32)
    elif mode.samplingMethod == mode.UPSAMPLE_MODE:
        extent = net.node("Add", extent, net.constant(1.0))
        share = index / count
    elif mode.samplingMethod == mode.ROI_ALIGN_MODE:
        extent = net.node("Max", extent, net.constant(1.0))
        share = (index + 0.5) / count
    else:
        raise layer.unsupported(f"samplingMethod {mode.samplingMethod}")
    points = net.node("Add", start, net.node("Mul", extent, net.constant(np.asarray(share, np.float32))))
    if mode.samplingMethod == mode.UPSAMPLE_MODE:
        points = net.node("Min", points, net.node("Max", start, end))
    return net.node("Clip", points, net.constant(0.0), net.constant(float(size - 1)))


def _read(net: Network, x: Blob, images: str, points: Sequence[str]) -> str:
    """The pixels at the points: (boxes, images, channels, rows, columns).

    Only pixels that are needed are gathered: a copy of the image for each box would not fit into the memory.
    """
    _, _, channels, height, width = known(x.shape)
    turned = net.node("Transpose", net.image(x), perm=[0, 2, 3, 1])
    pixels = net.node("Reshape", turned, net.constant([-1, channels]))
    (tops, down), (lefts, across) = [
        _corners(net, point, size, axis)
        for point, size, axis in zip(points, (height, width), (-1, -2), strict=True)
    ]
    first_rows = net.node("Mul", images, net.constant(height))

    def line(row: str) -> str:
        starts = net.node("Mul", net.node("Add", first_rows, row), net.constant(width))
        left, right = (net.node("Gather", pixels, net.node("Add", starts, column), axis=0) for column in lefts)
        return _blend(net, left, right, across)

    upper, lower = (line(row) for row in tops)
    return net.node("Transpose", _blend(net, upper, lower, down), perm=[0, 1, 4, 2, 3])


def _corners(net: Network, point: str, size: int, axis: int) -> tuple[tuple[str, str], str]:
    """The pixels before and after a point, as int64, and the distance from the first.

    Points (boxes, count) become (boxes, 1, count, 1) for rows (`axis` -1) and (boxes, 1, 1, count) for columns.
    """
    point = net.node("Unsqueeze", net.node("Unsqueeze", point, net.constant([1])), net.constant([axis]))
    below = net.node("Floor", point)
    low = net.node("Cast", below, to=ELEMENT_TYPES["int64"])
    high = net.node("Min", net.node("Add", low, net.constant([1])), net.constant([size - 1]))
    return (low, high), net.node("Unsqueeze", net.node("Sub", point, below), net.constant([-1]))


def _blend(net: Network, first: str, second: str, share: str) -> str:
    return net.node("Add", first, net.node("Mul", net.node("Sub", second, first), share))
