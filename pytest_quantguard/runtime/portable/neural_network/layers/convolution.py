"""Convolution and deconvolution in two and three dimensions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer
from pytest_quantguard.runtime.portable.neural_network.spatial import (
    Padding,
    Pair,
    border_amounts,
    same_padding,
    split_padding,
    start_heavy,
)


@layer("convolution")
def convolution(net: Network, layer: Layer, x: Blob, kernel: Blob | None = None) -> Blob:
    """`ConvolutionLayerParams`; a second input, if there is one, holds the weights."""
    params = layer.params
    if params.isDeconvolution:
        if kernel is not None:
            raise layer.unsupported("a deconvolution with weights as an input")
        return _deconvolution(net, layer, x)
    groups = int(params.nGroups) or 1
    size = layer.pair(params.kernelSize, 3)
    stride = layer.pair(params.stride, 1)
    dilation = layer.pair(params.dilationFactor, 1)
    if kernel is None:
        shape = (params.outputChannels, params.kernelChannels, *size)
        weights = net.constant(layer.weights("weights", shape), f"{layer.name}.weights")
    else:
        weights = net.image(kernel)
    window = ((size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1)
    value = net.node(
        "Conv",
        net.image(x),
        weights,
        *_bias(net, layer),
        group=groups,
        kernel_shape=size,
        strides=stride,
        dilations=dilation,
        pads=_convolution_padding(layer, x, window, stride).onnx,
    )
    return net.blob(value, (*x.shape[:-3], *net.shape(value)[-3:]))


def _convolution_padding(layer: Layer, x: Blob, window: Pair, stride: Pair) -> Padding:
    params = layer.params
    kind = params.WhichOneof("ConvolutionPaddingType")
    if kind == "valid":
        return border_amounts(layer, params.valid.paddingAmounts)
    if kind == "same":
        height, width = known(x.shape[-2:])
        return same_padding((height, width), window, stride, start_heavy=start_heavy(params.same))
    raise layer.unsupported("a padding that is not set")


def _bias(net: Network, layer: Layer) -> list[str]:
    if not layer.params.hasBias:
        return []
    return [net.constant(layer.weights("bias", (layer.params.outputChannels,)), f"{layer.name}.bias")]


def _deconvolution(net: Network, layer: Layer, x: Blob) -> Blob:
    """Transposed convolution.

    The specification says that `dilationFactor` is ignored here. coremltools' tests of dilated transposed
    convolutions, which compare Apple's engine with PyTorch, expect the opposite; so it is not ignored.
    """
    params = layer.params
    groups = int(params.nGroups) or 1
    size = layer.pair(params.kernelSize, 3)
    stride = layer.pair(params.stride, 1)
    dilation = layer.pair(params.dilationFactor, 1)
    window = ((size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1)
    shape = (params.kernelChannels, params.outputChannels // groups, *size)
    totals, padding = _deconvolution_padding(layer, x, window, stride)
    # A target larger than the full deconvolution is reached by outputs that no input reaches.
    extra = [max(0, -total) for total in totals]
    value = _transposed(
        net,
        layer,
        net.image(x),
        net.constant(layer.weights("weights", shape, axis=1), f"{layer.name}.weights"),
        extra=extra,
        group=groups,
        kernel_shape=size,
        strides=stride,
        dilations=dilation,
        pads=padding.onnx,
    )
    return net.blob(value, (*x.shape[:-3], *net.shape(value)[-3:]))


def _transposed(
    net: Network, layer: Layer, source: str, weights: str, *, extra: list[int], **attributes: Any
) -> str:
    """Transposed convolution; `extra` outputs per axis, which only the bias reaches, come at the end."""
    bias = _bias(net, layer)
    if not any(extra):
        return net.node("ConvTranspose", source, weights, *bias, **attributes)
    plain = net.node("ConvTranspose", source, weights, **attributes)
    amounts = [0] * (len(extra) + 2)
    value = net.node("Pad", plain, net.constant([*amounts, 0, 0, *extra]), net.constant(0.0))
    if not bias:
        return value
    return net.node("Add", value, net.node("Reshape", bias[0], net.constant([-1, *[1] * len(extra)])))


def _deconvolution_padding(layer: Layer, x: Blob, window: Pair, stride: Pair) -> tuple[Pair, Padding]:
    """What is cut off the full deconvolution: per axis the total, and its start and end."""
    params = layer.params
    height, width = known(x.shape[-2:])
    kind = params.WhichOneof("ConvolutionPaddingType")
    # TensorFlow's transposed convolution, which this mode stands for, cuts the odd pixel at the end.
    heavy = kind == "same" and start_heavy(params.same)
    if len(params.outputShape):
        target = layer.pair(params.outputShape, 0)
    elif kind == "same":
        target = (height * stride[0], width * stride[1])
    elif kind == "valid":
        padding = border_amounts(layer, params.valid.paddingAmounts)
        return (sum(padding.height), sum(padding.width)), padding
    else:
        raise layer.unsupported("a padding that is not set")
    totals = (
        (height - 1) * stride[0] + window[0] - target[0],
        (width - 1) * stride[1] + window[1] - target[1],
    )
    halves = [split_padding(max(0, total), start_heavy=heavy) for total in totals]
    return totals, Padding(*halves)


@layer("convolution3d")
def convolution3d(net: Network, layer: Layer, x: Blob) -> Blob:
    """`Convolution3DLayerParams`."""
    params = layer.params
    if x.rank != 5:
        raise layer.unsupported(f"an input of rank {x.rank} (5 is needed)")
    size = (params.kernelDepth, params.kernelHeight, params.kernelWidth)
    groups = params.nGroups or 1
    strides = (params.strideDepth, params.strideHeight, params.strideWidth)
    dilations = (params.dilationDepth, params.dilationHeight, params.dilationWidth)
    window = [(length - 1) * dilation + 1 for length, dilation in zip(size, dilations, strict=True)]
    if params.isDeconvolution:
        return _deconvolution3d(net, layer, x, size, window)
    shape = (params.outputChannels, params.inputChannels // groups, *size)
    value = net.node(
        "Conv",
        net.exact(x),
        net.constant(layer.weights("weights", shape), f"{layer.name}.weights"),
        *_bias(net, layer),
        group=groups,
        strides=strides,
        dilations=dilations,
        pads=padding3d(params, known(x.shape[-3:]), window, strides),
    )
    return net.blob(value)


def _deconvolution3d(net: Network, layer: Layer, x: Blob, size: tuple[int, ...], window: list[int]) -> Blob:
    """Transposed convolution; the output shape, where it is given, overrides the padding."""
    params = layer.params
    groups = params.nGroups or 1
    strides = (params.strideDepth, params.strideHeight, params.strideWidth)
    lengths = known(x.shape[-3:])
    full = [(length - 1) * step + reach for length, step, reach in zip(lengths, strides, window, strict=True)]
    target = list(params.outputShape)
    if not target and params.paddingType == params.SAME:
        target = [length * step for length, step in zip(lengths, strides, strict=True)]
    pads, extra = padding3d(params, lengths, window, strides), [0, 0, 0]
    if target:
        totals = [length - wanted for length, wanted in zip(full, target, strict=True)]
        halves = [split_padding(max(0, total)) for total in totals]
        pads = [start for start, _ in halves] + [end for _, end in halves]
        extra = [max(0, -total) for total in totals]
    # coremltools writes the input's channels first, other than the specification says.
    shape = (params.inputChannels, params.outputChannels // groups, *size)
    value = _transposed(
        net,
        layer,
        net.exact(x),
        net.constant(layer.weights("weights", shape, axis=1), f"{layer.name}.weights"),
        extra=extra,
        group=groups,
        strides=strides,
        dilations=(params.dilationDepth, params.dilationHeight, params.dilationWidth),
        pads=pads,
    )
    return net.blob(value)


def padding3d(params: Any, sizes: tuple[int, ...], window: list[int], strides: tuple[int, ...]) -> list[int]:
    """ONNX pads of the three-dimensional layers: all starts, then all ends."""
    if params.paddingType == params.VALID:
        return [0] * 6
    if params.paddingType == params.CUSTOM:
        return [
            params.customPaddingFront,
            params.customPaddingTop,
            params.customPaddingLeft,
            params.customPaddingBack,
            params.customPaddingBottom,
            params.customPaddingRight,
        ]
    halves: NDArray[Any] = np.array(
        [
            split_padding(max(0, (-(-size // step) - 1) * step + length - size))
            for size, length, step in zip(sizes, window, strides, strict=True)
        ]
    )
    return [int(amount) for amount in halves.T.ravel()]
