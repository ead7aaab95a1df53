"""Normalization: batch, instance, local response, mean and variance, L2, layer; softmax."""

import numpy as np

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

# Axes of a blob as (batch, channels, height, width).
_BATCH, _CHANNELS, _HEIGHT, _WIDTH = range(4)


@layer("batchnorm")
def batchnorm(net: Network, layer: Layer, x: Blob) -> Blob:
    """`BatchnormLayerParams`: with stored statistics, or those of the instance or the batch."""
    params = layer.params
    shape = (int(params.channels),)
    epsilon = float(params.epsilon) or 1e-5
    image = net.image(x)
    gamma = net.constant(layer.weights("gamma", shape), f"{layer.name}.gamma")
    beta = net.constant(layer.weights("beta", shape), f"{layer.name}.beta")
    if not params.computeMeanVar:
        mean = net.constant(layer.weights("mean", shape), f"{layer.name}.mean")
        variance = net.constant(layer.weights("variance", shape), f"{layer.name}.variance")
        value = net.node("BatchNormalization", image, gamma, beta, mean, variance, epsilon=epsilon)
    elif params.instanceNormalization:
        value = net.node("InstanceNormalization", image, gamma, beta, epsilon=epsilon)
    else:
        normal = _normalized(net, image, [_BATCH, _HEIGHT, _WIDTH], epsilon)
        per_channel = net.constant([shape[0], 1, 1])
        scaled = net.node("Mul", normal, net.node("Reshape", gamma, per_channel))
        value = net.node("Add", scaled, net.node("Reshape", beta, per_channel))
    return net.blob(value, x.shape)


def _normalized(net: Network, value: str, axes: list[int], epsilon: float | None) -> str:
    """Subtract the mean over the axes; divide by the standard deviation unless epsilon is None."""
    over = net.constant(axes)
    centred = net.node("Sub", value, net.node("ReduceMean", value, over))
    if epsilon is None:
        return centred
    variance = net.node("ReduceMean", net.node("Mul", centred, centred), over)
    deviation = net.node("Sqrt", net.node("Add", variance, net.constant(epsilon)))
    return net.node("Div", centred, deviation)


@layer("mvn")
def mean_variance(net: Network, layer: Layer, x: Blob) -> Blob:
    """`MeanVarianceNormalizeLayerParams`."""
    params = layer.params
    axes = [_CHANNELS, _HEIGHT, _WIDTH] if params.acrossChannels else [_HEIGHT, _WIDTH]
    epsilon = float(params.epsilon) or 1e-6
    image = net.image(x)
    if params.normalizeVariance and not params.acrossChannels and net.shape(image)[_HEIGHT] == 1:
        return net.blob(_rows_normalized(net, image, epsilon), x.shape)
    return net.blob(_normalized(net, image, axes, epsilon if params.normalizeVariance else None), x.shape)


def _rows_normalized(net: Network, image: str, epsilon: float) -> str:
    """`_normalized` over rows, which is how coremltools writes a layer norm: one operator in place of seven."""
    width = net.shape(image)[_WIDTH]
    if width is None:
        return _normalized(net, image, [_WIDTH], epsilon)
    ones = net.constant(np.ones(width, np.float32), "ones")
    value = net.node("LayerNormalization", image, ones, axis=_WIDTH, epsilon=epsilon)
    net.normalized_rows[value] = (image, epsilon)
    return value


@layer("l2normalize")
def l2_normalize(net: Network, layer: Layer, x: Blob) -> Blob:
    """`L2NormalizeLayerParams`: over channels, height and width together."""
    image = net.image(x)
    squares = net.node("ReduceSumSquare", image, net.constant([_CHANNELS, _HEIGHT, _WIDTH]))
    epsilon = net.constant(float(layer.params.epsilon) or 1e-6)
    return net.blob(net.node("Div", image, net.node("Sqrt", net.node("Add", squares, epsilon))), x.shape)


@layer("lrn")
def local_response(net: Network, layer: Layer, x: Blob) -> Blob:
    """`LRNLayerParams`: a window over neighbouring channels."""
    params, size = layer.params, int(layer.params.localSize)
    if size < 1:
        raise layer.unsupported("a window of no channels")
    if size % 2 == 0:
        return _even_local_response(net, layer, x, size)
    value = net.node(
        "LRN",
        net.image(x),
        size=size,
        alpha=float(params.alpha),
        beta=float(params.beta),
        bias=float(params.k) or 1.0,
    )
    return net.blob(value, x.shape)


def _even_local_response(net: Network, layer: Layer, x: Blob, size: int) -> Blob:
    """A window of an even number of channels, one more behind than before; onnxruntime takes odd ones only.

    ONNX's definition of LRN and Apple's `MPSCNNCrossChannelNormalization` place the window so.
    """
    params, image = layer.params, net.image(x)
    batch, channels, height, width = known(net.shape(image))
    squares = net.node(
        "Reshape", net.node("Mul", image, image), net.constant([batch, 1, channels, height * width])
    )
    pads = [(size - 1) // 2, 0, size // 2, 0]
    means = net.node("AveragePool", squares, kernel_shape=[size, 1], pads=pads, count_include_pad=1)
    means = net.node("Reshape", means, net.constant([batch, channels, height, width]))
    scaled = net.node("Mul", means, net.constant(float(params.alpha)))
    base = net.node("Add", scaled, net.constant(float(params.k) or 1.0))
    return net.blob(net.node("Div", image, net.node("Pow", base, net.constant(float(params.beta)))), x.shape)


@layer("softmax")
def softmax(net: Network, layer: Layer, x: Blob) -> Blob:
    """`SoftmaxLayerParams`: over the channels."""
    return net.blob(net.node("Softmax", net.image(x), axis=_CHANNELS), x.shape)


@layer("softmaxND")
def softmax_nd(net: Network, layer: Layer, x: Blob) -> Blob:
    """`SoftmaxNDLayerParams`: over any axis."""
    return net.blob(net.node("Softmax", net.exact(x), axis=int(layer.params.axis)), x.shape)


@layer("layerNormalization")
def layer_normalization(net: Network, layer: Layer, x: Blob) -> Blob:
    """`LayerNormalizationLayerParams`: over the last dimensions, those of `normalizedShape`."""
    params = layer.params
    shape = tuple(int(size) for size in params.normalizedShape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise layer.unsupported(f"normalizedShape {shape} on an input of shape {x.shape}")
    gamma = net.constant(layer.weights("gamma", shape), f"{layer.name}.gamma")
    beta = net.constant(layer.weights("beta", shape), f"{layer.name}.beta")
    value = net.node("LayerNormalization", net.exact(x), gamma, beta, axis=-len(shape), epsilon=float(params.eps))
    return net.blob(value, x.shape)
