"""Activation functions."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.models.neural_network_weights import decode_weights
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

Activation = Callable[[Network, str, Any], str]
"""Takes the network, an ONNX value and the activation's own message."""


def _linear(net: Network, x: str, params: Any) -> str:
    scaled = net.node("Mul", x, net.constant(float(params.alpha)))
    return net.node("Add", scaled, net.constant(float(params.beta)))


def _thresholded_relu(net: Network, x: str, params: Any) -> str:
    # ONNX's ThresholdedRelu drops x == alpha, the specification keeps it.
    dropped = net.node("Less", x, net.constant(float(params.alpha)))
    return net.node("Where", dropped, net.constant(0.0), x)


def _scaled_tanh(net: Network, x: str, params: Any) -> str:
    inner = net.node("Tanh", net.node("Mul", x, net.constant(float(params.beta))))
    return net.node("Mul", inner, net.constant(float(params.alpha)))


ACTIVATIONS: dict[str, Activation] = {
    "linear": _linear,
    "ReLU": lambda net, x, params: net.node("Relu", x),
    "leakyReLU": lambda net, x, params: net.node("LeakyRelu", x, alpha=float(params.alpha)),
    "thresholdedReLU": _thresholded_relu,
    "tanh": lambda net, x, params: net.node("Tanh", x),
    "scaledTanh": _scaled_tanh,
    "sigmoid": lambda net, x, params: net.node("Sigmoid", x),
    "sigmoidHard": lambda net, x, params: net.node(
        "HardSigmoid", x, alpha=float(params.alpha), beta=float(params.beta)
    ),
    "ELU": lambda net, x, params: net.node("Elu", x, alpha=float(params.alpha)),
    "softsign": lambda net, x, params: net.node("Softsign", x),
    "softplus": lambda net, x, params: net.node("Softplus", x),
}
"""Functions of `ActivationParams` without weights, by the specification's oneof name."""


@layer("activation")
def activation(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ActivationParams`."""
    kind = layer.params.WhichOneof("NonlinearityType")
    if kind == "PReLU":
        slope = net.constant(_per_channel(layer, x, layer.params.PReLU.alpha))
        return net.blob(net.node("PRelu", net.image(x), slope), x.shape)
    if kind == "parametricSoftplus":
        return _parametric_softplus(net, layer, x)
    if kind not in ACTIVATIONS:
        raise layer.unsupported(f"activation {kind!r}")
    return net.blob(ACTIVATIONS[kind](net, x.value, getattr(layer.params, kind)), x.shape)


def _parametric_softplus(net: Network, layer: Layer, x: Blob) -> Blob:
    params = layer.params.parametricSoftplus
    inner = net.node("Mul", net.image(x), net.constant(_per_channel(layer, x, params.beta)))
    outer = net.node("Softplus", inner)
    return net.blob(net.node("Mul", outer, net.constant(_per_channel(layer, x, params.alpha))), x.shape)


def _per_channel(layer: Layer, x: Blob, weights: Any) -> NDArray[np.float32]:
    """A vector of length C, or of length 1 for all channels, as shape (C, 1, 1)."""
    single = len(weights.floatValue) == 1 or len(weights.float16Value) == 2
    length = 1 if single else x.shape[-3] or 0
    name = f"{layer.model}: layer {layer.name!r}: activation"
    return decode_weights(weights, (length,), name=name).reshape(-1, 1, 1)


@layer("clampedReLU")
def clamped_relu(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ClampedReLULayerParams`: min(beta, x) from 0 on, min(beta, alpha * x) below."""
    leaky = net.map("LeakyRelu", x, alpha=float(layer.params.alpha))
    return net.map("Min", leaky, net.constant(float(layer.params.beta)))


@layer("gelu")
def gelu(net: Network, layer: Layer, x: Blob) -> Blob:
    """`GeluLayerParams`."""
    params = layer.params
    if params.mode == params.EXACT:
        return net.map("Gelu", x, approximate="none")
    if params.mode == params.TANH_APPROXIMATION:
        return net.map("Gelu", x, approximate="tanh")
    if params.mode == params.SIGMOID_APPROXIMATION:
        gate = net.node("Sigmoid", net.node("Mul", x.value, net.constant(1.702)))
        return net.map("Mul", x, gate)
    raise layer.unsupported(f"mode {params.mode}")
