"""Scaling height and width."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer


@layer("upsample")
def upsample(net: Network, layer: Layer, x: Blob) -> Blob:
    """`UpsampleLayerParams`: nearest neighbour or bilinear."""
    params = layer.params
    whole, fraction = list(params.scalingFactor), list(params.fractionalScalingFactor)
    if (whole and fraction) or len(whole or fraction) not in (0, 2):
        raise layer.unsupported("a scaling factor of another form than (height, width)")
    factors = whole or fraction or [1, 1]
    image = net.image(x)
    if params.mode == params.NN:
        if fraction:
            raise layer.unsupported("a fractional factor with nearest neighbours")
        scales = net.constant(np.array([1, 1, *factors], np.float32))
        value = net.node(
            "Resize",
            image,
            net.constant(np.zeros(0, np.float32)),
            scales,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
    elif params.mode == params.BILINEAR:
        value = image
        for axis, size, factor in zip((2, 3), known(x.shape[-2:]), factors, strict=True):
            # A factor is stored as float32: 1.1 times 10 must not become 10.999.
            outputs = int(np.float32(size) * np.float32(factor))
            value = interpolate(net, value, axis, _upsample_grid(layer, size, outputs))
    else:
        raise layer.unsupported(f"mode {params.mode}")
    return net.blob(value, (*x.shape[:-2], *net.shape(value)[-2:]))


def _upsample_grid(layer: Layer, size: int, outputs: int) -> NDArray[np.float64]:
    """Where the outputs lie on the input's pixels (`LinearUpsampleMode`)."""
    params = layer.params
    index = np.arange(outputs, dtype=np.float64)
    if params.linearUpsampleMode == params.DEFAULT:
        grid = index * size / outputs
    elif params.linearUpsampleMode == params.ALIGN_CORNERS_TRUE:
        grid = index * (size - 1) / max(1, outputs - 1)
    elif params.linearUpsampleMode == params.ALIGN_CORNERS_FALSE:
        grid = (index + 0.5) * size / outputs - 0.5
    else:
        raise layer.unsupported(f"linearUpsampleMode {params.linearUpsampleMode}")
    return grid.clip(0, size - 1)


@layer("resizeBilinear")
def resize_bilinear(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ResizeBilinearLayerParams`."""
    targets = layer.pair(layer.params.targetSize, 1)
    value = net.image(x)
    for axis, size, target in zip((2, 3), known(x.shape[-2:]), targets, strict=True):
        value = interpolate(net, value, axis, _sampling_grid(layer, size, target))
    return net.blob(value, (*x.shape[:-2], *net.shape(value)[-2:]))


@layer("cropResize")
def crop_resize(net: Network, layer: Layer, x: Blob, boxes: Blob) -> Blob:
    """`CropResizeLayerParams`: boxes cut out of an image and scaled to one size."""
    params = layer.params
    height, width = known(x.shape[-2:])
    targets = layer.pair(params.targetSize, 1)
    if x.rank != 5 or x.shape[0] != 1 or boxes.rank != 5 or boxes.shape[1:] not in ((1, 4, 1, 1), (1, 5, 1, 1)):
        raise layer.unsupported(f"inputs of shapes {x.shape} and {boxes.shape}")
    number, values = known((boxes.shape[0], boxes.shape[2]))
    if values == 4 and x.shape[1] != 1:
        raise layer.unsupported(f"boxes without an image's number on a batch of {x.shape[1]}")
    *which, first, second, third, fourth = net.nodes(
        "Split", [net.reshaped(boxes, (number, values))], values, axis=1, num_outputs=values
    )
    edges = _box_edges(layer, [first, second, third, fourth])
    grids = []
    for size, (start, end), target in zip((height, width), edges, targets, strict=True):
        scale = net.constant(
            (float(params.spatialScale) or 1.0) * (size - 1 if params.normalizedCoordinates else 1)
        )
        grids.append(_box_grid(net, layer, net.node("Mul", start, scale), net.node("Mul", end, scale), target))
    # GridSample counts from -1, the centre of the first pixel, to 1, the centre of the last; width comes first.
    full = net.constant([number, *targets])
    rows = net.node("Expand", net.node("Unsqueeze", _signed(net, grids[0], height), net.constant([2])), full)
    across = net.node("Expand", net.node("Unsqueeze", _signed(net, grids[1], width), net.constant([1])), full)
    last = net.constant([-1])
    points = net.node("Concat", net.node("Unsqueeze", across, last), net.node("Unsqueeze", rows, last), axis=-1)
    if which:
        index = net.node("Reshape", net.node("Cast", which[0], to=7), net.constant([number]))
        repeated = net.node("Gather", net.image(x), index, axis=0)
    else:
        repeated = net.node("Expand", net.image(x), net.constant([number, *known(x.shape[2:])]))
    value = net.node("GridSample", repeated, points, mode="linear", padding_mode="border", align_corners=1)
    return net.blob(value, (number, 1, *net.shape(value)[1:]))


def _box_edges(layer: Layer, columns: list[str]) -> list[tuple[str, str]]:
    """(top, bottom) and (left, right) of the boxes (`BoxCoordinatesMode`)."""
    mode = layer.params.boxIndicesMode
    first, second, third, fourth = columns
    if mode.boxMode == mode.CORNERS_HEIGHT_FIRST:
        return [(first, third), (second, fourth)]
    if mode.boxMode == mode.CORNERS_WIDTH_FIRST:
        return [(second, fourth), (first, third)]
    raise layer.unsupported(f"boxMode {mode.boxMode}")


def _box_grid(net: Network, layer: Layer, start: str, end: str, outputs: int) -> str:
    """Sampling points of each box, (boxes, outputs)."""
    mode = layer.params.mode
    span = net.node("Sub", end, start)
    share = np.linspace(0, 1, outputs)
    if mode.samplingMethod == mode.ALIGN_ENDPOINTS_MODE and outputs == 1:
        share = np.array([0.5])
    elif mode.samplingMethod not in (mode.STRICT_ALIGN_ENDPOINTS_MODE, mode.ALIGN_ENDPOINTS_MODE):
        raise layer.unsupported(f"samplingMethod {mode.samplingMethod}")
    return net.node("Add", start, net.node("Mul", span, net.constant(share.astype(np.float32)[None])))


def _signed(net: Network, grid: str, size: int) -> str:
    scaled = net.node("Mul", grid, net.constant(2.0 / max(1, size - 1)))
    return net.node("Sub", scaled, net.constant(1.0))


def _sampling_grid(layer: Layer, size: int, outputs: int) -> NDArray[np.float64]:
    """Where the outputs lie on the input's pixels (`SamplingMode`)."""
    mode = layer.params.mode
    method = mode.samplingMethod
    if method == mode.ALIGN_ENDPOINTS_MODE and outputs == 1:
        return np.array([(size - 1) / 2])
    if method in (mode.STRICT_ALIGN_ENDPOINTS_MODE, mode.ALIGN_ENDPOINTS_MODE):
        return np.linspace(0, size - 1, outputs)
    if method == mode.UPSAMPLE_MODE:
        return np.linspace(0, size - size / outputs, outputs).clip(0, size - 1)
    if method == mode.ROI_ALIGN_MODE:
        spacing = max(1, size - 1) / outputs
        return ((np.arange(outputs) + 0.5) * spacing).clip(0, size - 1)
    raise layer.unsupported(f"samplingMethod {method}")


def interpolate(net: Network, value: str, axis: int, grid: NDArray[np.float64]) -> str:
    """Linear interpolation along an axis of (batch, channels, height, width) at positions known beforehand."""
    size = net.shape(value)[axis]
    if len(grid) == size and np.array_equal(grid, np.arange(size)):
        return value
    below = np.floor(grid).astype(np.int64)
    share = (grid - below).astype(np.float32)
    low = net.node("Gather", value, net.constant(below), axis=axis)
    if not share.any():
        return low
    above = np.minimum(below + 1, (size or 1) - 1)
    high = net.node("Gather", value, net.constant(above), axis=axis)
    weights: NDArray[Any] = share.reshape(-1, 1) if axis == 2 else share
    step = net.node("Mul", net.node("Sub", high, low), net.constant(weights))
    return net.node("Add", low, step)
