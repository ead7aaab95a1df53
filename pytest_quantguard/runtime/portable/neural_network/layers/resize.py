"""Scaling height and width."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer
from pytest_quantguard.runtime.portable.neural_network.spatial import checked_length


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
            outputs = checked_length(layer, int(np.float32(size) * np.float32(factor)))
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
        value = interpolate(net, value, axis, _sampling_grid(layer, size, checked_length(layer, target)))
    return net.blob(value, (*x.shape[:-2], *net.shape(value)[-2:]))


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
