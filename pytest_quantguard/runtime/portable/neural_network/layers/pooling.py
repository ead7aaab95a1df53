"""Pooling in two and three dimensions."""

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
        raise layer.unsupported("a padding that is not smaller than the kernel")
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride}
    if params.type == params.MAX:
        return net.node("MaxPool", image, pads=total.onnx, **window)
    if params.type == params.L2:
        return net.node("LpPool", image, p=2, pads=total.onnx, **window)
    if params.type != params.AVERAGE:
        raise layer.unsupported(f"pooling type {params.type}")
    if params.avgPoolExcludePadding:
        return net.node("AveragePool", image, pads=total.onnx, count_include_pad=0, **window)
    if not any(extra):
        return net.node("AveragePool", image, pads=total.onnx, count_include_pad=1, **window)
    # The padding counts, what the last window reaches over it does not (as in Caffe and PyTorch).
    averages = net.node("AveragePool", image, pads=total.onnx, count_include_pad=1, **window)
    height, width = known(net.shape(averages)[-2:])
    rows = _share_beyond(height, kernel[0], stride[0], extra[0])
    columns = _share_beyond(width, kernel[1], stride[1], extra[1])
    return net.node("Mul", averages, net.constant(np.multiply.outer(rows, columns)))


def _share_beyond(outputs: int, kernel: int, stride: int, extra: int) -> NDArray[np.float32]:
    """What to multiply averages over whole windows by, so that the last `extra` elements do not count."""
    starts = np.arange(outputs) * stride
    end = starts[-1] + kernel - extra
    counted = np.minimum(starts + kernel, end) - starts
    return np.asarray(kernel / counted, np.float32)


@layer("pooling3d")
def pooling3d(net: Network, layer: Layer, x: Blob) -> Blob:
    """`Pooling3DLayerParams`."""
    params = layer.params
    kernel = [params.kernelDepth, params.kernelHeight, params.kernelWidth]
    strides = (params.strideDepth, params.strideHeight, params.strideWidth)
    pads = padding3d(params, known(x.shape[-3:]), kernel, strides)
    if any(amount >= size for amount, size in zip(pads, kernel * 2, strict=True)):
        raise layer.unsupported("a padding that is not smaller than the kernel")
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
