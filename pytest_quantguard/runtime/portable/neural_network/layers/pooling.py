"""Pooling in two and three dimensions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.layers.convolution import padding3d
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer
from pytest_quantguard.runtime.portable.neural_network.spatial import (
    Padding,
    Pair,
    border_amounts,
    same_padding,
    start_heavy,
)


@layer("pooling")
def pooling(net: Network, layer: Layer, x: Blob) -> Blob:
    """`PoolingLayerParams`: maximum, average and L2 (the root of the sum of squares)."""
    params = layer.params
    image = net.image(x)
    if params.globalPooling:
        value = _global(net, layer, image)
    else:
        kernel = layer.pair(params.kernelSize, 3)
        stride = layer.pair(params.stride, 1)
        padding, extra = _padding(layer, x, kernel, stride)
        value = _windows(net, layer, image, kernel, stride, padding, extra)
    return net.blob(value, (*x.shape[:-3], *net.shape(value)[-3:]))


def _global(net: Network, layer: Layer, image: str) -> str:
    params = layer.params
    if params.type == params.MAX:
        return net.node("GlobalMaxPool", image)
    if params.type == params.AVERAGE:
        return net.node("GlobalAveragePool", image)
    if params.type == params.L2:
        return net.node("GlobalLpPool", image, p=2)
    raise layer.unsupported(f"pooling type {params.type}")


def _padding(layer: Layer, x: Blob, kernel: Pair, stride: Pair) -> tuple[Padding, Pair]:
    """The padding, and what `includeLastPixel` adds at the bottom right."""
    params = layer.params
    kind = params.WhichOneof("PoolingPaddingType")
    if kind == "valid":
        return border_amounts(layer, params.valid.paddingAmounts), (0, 0)
    height, width = known(x.shape[-2:])
    if kind == "same":
        return same_padding((height, width), kernel, stride, start_heavy=start_heavy(params.same)), (0, 0)
    if kind == "includeLastPixel":
        top, left = layer.pair(params.includeLastPixel.paddingAmounts, 0)
        padded = bool(top or left)
        extra = (
            _last_pixel(height, top, kernel[0], stride[0], padded),
            _last_pixel(width, left, kernel[1], stride[1], padded),
        )
        return Padding((top, top), (left, left)), extra
    raise layer.unsupported("a padding that is not set")


def _last_pixel(size: int, padding: int, kernel: int, stride: int, padded: bool) -> int:
    """How far the last window reaches over the padded input (`ValidCompletePadding`)."""
    outputs = -(-(size + 2 * padding - kernel) // stride) + 1
    if padded and (outputs - 1) * stride >= size + padding:
        outputs -= 1
    return max(0, (outputs - 1) * stride + kernel - size - 2 * padding)


def _windows(
    net: Network, layer: Layer, image: str, kernel: Pair, stride: Pair, padding: Padding, extra: Pair
) -> str:
    params = layer.params
    total = Padding(
        (padding.height[0], padding.height[1] + extra[0]), (padding.width[0], padding.width[1] + extra[1])
    )
    if max(total.height) >= kernel[0] or max(total.width) >= kernel[1]:
        return _wide_padding(net, layer, image, (kernel, stride, padding.onnx, extra))
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride}
    if params.type == params.MAX:
        return net.node("MaxPool", image, pads=total.onnx, **window)
    if params.type == params.L2:
        return net.node("LpPool", image, p=2, pads=total.onnx, **window)
    if params.type != params.AVERAGE:
        raise layer.unsupported(f"pooling type {params.type}")
    if params.avgPoolExcludePadding:
        return net.node("AveragePool", image, pads=total.onnx, count_include_pad=0, **window)
    averages = net.node("AveragePool", image, pads=total.onnx, count_include_pad=1, **window)
    if not any(extra):
        return averages
    # The padding counts, what the last window reaches over it does not (as in Caffe and PyTorch).
    return _counting(net, averages, kernel, stride, padding.onnx, _padded_region(net, image, padding.onnx))


def _wide_padding(
    net: Network,
    layer: Layer,
    image: str,
    window: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]],
) -> str:
    """Pooling with a padding as wide as the kernel or wider, which onnxruntime's pooling refuses.

    Args:
        net: takes the nodes.
        layer: a pooling layer in two or three dimensions.
        image: (batch, channels, ...).
        window: kernel, strides, the padding of all starts and then all ends, and what is not counted behind that.
    """
    params, (kernel, strides, pads, extra) = layer.params, window
    beyond = [end + more for end, more in zip(pads[len(kernel) :], extra, strict=True)]
    largest = params.type == params.MAX
    padded = image
    for axis, (start, end) in enumerate(zip(pads[: len(kernel)], beyond, strict=True), 2):
        padded = _surrounded(net, padded, axis, start, end, float(np.finfo(np.float32).min) if largest else 0.0)
    attributes: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides)}
    if largest:
        return net.node("MaxPool", padded, **attributes)
    if layer.kind == "pooling" and params.type == params.L2:
        return net.node("LpPool", padded, p=2, **attributes)
    if params.type != params.AVERAGE:
        raise layer.unsupported(f"pooling type {params.type}")
    averages = net.node("AveragePool", padded, **attributes)
    excluded = params.avgPoolExcludePadding if layer.kind == "pooling" else params.countExcludePadding
    region = _padded_region(net, image, [0] * len(pads) if excluded else pads)
    return _counting(net, averages, kernel, strides, pads, region)


def _surrounded(net: Network, value: str, axis: int, start: int, end: int, fill: float) -> str:
    """Padding that onnxruntime does not fuse with the pooling behind it, as it does ONNX's Pad."""
    shape = list(known(net.shape(value)))
    parts = [value]
    for amount, position in ((start, 0), (end, 2)):
        if amount:
            shape[axis] = amount
            filled = net.node("Expand", net.constant(fill), net.constant(shape))
            parts.insert(position, filled)
    return net.node("Concat", *parts, axis=axis)


def _padded_region(net: Network, image: str, pads: Sequence[int]) -> list[Pair]:
    """First and last (exclusive) position of the padded input, counted from the input's own first."""
    sizes, half = known(net.shape(image)[2:]), len(pads) // 2
    return [(-start, size + end) for size, start, end in zip(sizes, pads[:half], pads[half:], strict=True)]


def _counting(
    net: Network,
    averages: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    region: Sequence[Pair],
) -> str:
    """From averages over whole windows to averages over what of them lies in a region of the input."""
    factor: NDArray[Any] = np.ones((), np.float32)
    outputs = known(net.shape(averages)[2:])
    for count, length, step, padding, (first, last) in zip(outputs, kernel, strides, pads, region, strict=False):
        starts = np.arange(count) * step - padding
        counted = np.minimum(starts + length, last) - np.maximum(starts, first)
        factor = np.multiply.outer(factor, np.asarray(length / np.maximum(counted, 1), np.float32))
    return net.node("Mul", averages, net.constant(factor))


@layer("pooling3d")
def pooling3d(net: Network, layer: Layer, x: Blob) -> Blob:
    """`Pooling3DLayerParams`."""
    params = layer.params
    kernel = [params.kernelDepth, params.kernelHeight, params.kernelWidth]
    strides = (params.strideDepth, params.strideHeight, params.strideWidth)
    pads = padding3d(params, known(x.shape[-3:]), kernel, strides)
    if any(amount >= size for amount, size in zip(pads, kernel * 2, strict=True)):
        return net.blob(_wide_padding(net, layer, net.exact(x), (kernel, strides, pads, [0] * 3)))
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if params.type == params.MAX:
        return net.blob(net.node("MaxPool", net.exact(x), **window))
    count = 0 if params.countExcludePadding else 1
    return net.blob(net.node("AveragePool", net.exact(x), count_include_pad=count, **window))


@layer("globalPooling3d")
def global_pooling3d(net: Network, layer: Layer, x: Blob) -> Blob:
    """`GlobalPooling3DLayerParams`."""
    operator = "GlobalMaxPool" if layer.params.type == layer.params.MAX else "GlobalAveragePool"
    return net.blob(net.node(operator, net.exact(x)))
