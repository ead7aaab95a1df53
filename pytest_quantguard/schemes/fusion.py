"""Fusing a layer into the convolution or inner product before it: when it is right, and how.

Below 16 bits coremltools fuses batch norm, scale and bias layers before it quantizes a neural network
(coremltools.models.neural_network.optimization_utils). Some of these fusions change what the network computes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.models.neural_network_weights import replace_floats

# What coremltools fuses: the first layer's type to the types of the layer after it.
_PAIRS = {
    "convolution": ("batchnorm", "scale", "bias"),
    "innerProduct": ("scale", "bias"),
    "batchnorm": ("scale",),
}
# The fields that hold a layer's values (specification: `WeightParams`).
_PARAMETERS = {
    "convolution": ("weights", "bias"),
    "innerProduct": ("weights", "bias"),
    "batchnorm": ("gamma", "beta", "mean", "variance"),
    "scale": ("scale", "bias"),
    "bias": ("bias",),
}


def is_fused(first: Any, second: Any) -> bool:
    """Whether coremltools fuses NeuralNetworkLayer `second` into the NeuralNetworkLayer `first` before it."""
    return second.WhichOneof("layer") in _PAIRS.get(first.WhichOneof("layer"), ())


def may_fuse(first: Any, second: Any, outputs: frozenset[str]) -> bool:
    """Whether fusing, as coremltools does it, keeps what the network computes.

    Args:
        first: a NeuralNetworkLayer.
        second: the NeuralNetworkLayer that takes its output, so that `is_fused(first, second)`.
        outputs: names of the network's outputs; a blob that is one must not disappear.
    """
    kind, next_kind = first.WhichOneof("layer"), second.WhichOneof("layer")
    if set(first.output) & outputs:
        return False
    one, two = getattr(first, kind), getattr(second, next_kind)
    channels = one.channels if kind == "batchnorm" else one.outputChannels
    if not (_holds_float32(one, kind, channels) and _holds_float32(two, next_kind, channels)):
        return False  # coremltools would add float32 values beside float16 or quantized ones
    if kind == "convolution" and one.isDeconvolution and next_kind != "bias":
        return False  # a deconvolution's weights have the output channels on their second axis
    if next_kind == "batchnorm":
        # Statistics that are computed from the input cannot move into weights.
        return not (two.computeMeanVar or two.instanceNormalization)
    if next_kind == "bias":
        return _is_per_channel(two.shape, channels)
    if kind != "batchnorm" and one.hasBias and not two.hasBias:
        return False  # coremltools would leave the bias of the first layer unscaled
    shapes = [two.shapeScale, *([two.shapeBias] if two.hasBias else [])]
    return all(_is_per_channel(shape, channels) for shape in shapes)


def fuse_batchnorm(convolution: Any, batchnorm: Any) -> None:
    """Make a ConvolutionLayerParams compute what it and the BatchnormLayerParams after it compute.

    y = gamma * (w x + b - mean) / sqrt(variance + epsilon) + beta, per output channel, in double precision and in
    the order of operations of coremltools 8.2, the last version that has it right.
    """
    mean, beta = _doubles(batchnorm.mean), _doubles(batchnorm.beta)
    gamma = _doubles(batchnorm.gamma)
    deviation = np.sqrt(_doubles(batchnorm.variance) + batchnorm.epsilon)
    channels = convolution.outputChannels
    bias = _doubles(convolution.bias) if convolution.hasBias else np.zeros(channels)
    weights = _doubles(convolution.weights).reshape(channels, -1)
    fused_weights = (gamma / deviation)[:, None] * weights
    fused_bias = gamma * bias / deviation - gamma * mean / deviation + beta
    replace_floats(convolution.weights, fused_weights)
    replace_floats(convolution.bias, fused_bias)
    convolution.hasBias = True


def _doubles(weights: Any) -> NDArray[np.float64]:
    """Float64 values, which protobuf 7 does not give by itself."""
    return np.array(weights.floatValue, np.float64)


def _holds_float32(parameters: Any, kind: str, channels: int) -> bool:
    """Whether every parameter that is there holds float32 values, and as many as it should."""
    for field in _PARAMETERS[kind]:
        count = len(getattr(parameters, field).floatValue)
        if field == "weights":
            if count == 0 or count % channels:
                return False
        elif (field != "bias" or kind == "bias" or parameters.hasBias) and count != channels:
            return False
    return True


def _is_per_channel(shape: Any, channels: int) -> bool:
    """Whether values of this shape are one per channel: (channels,) or (channels, 1, 1)."""
    return list(shape) in ([channels], [channels, 1, 1])
