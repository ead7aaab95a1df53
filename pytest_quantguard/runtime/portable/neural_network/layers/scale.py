"""Factors and biases from the file: per tensor, per channel or per element."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer


@layer("scale")
def scale(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ScaleLayerParams`: a factor and an optional bias, per tensor, channel or element."""
    params = layer.params
    factor = _per_element(layer, layer.weights("scale", (math.prod(params.shapeScale),)), params.shapeScale)
    offset = None
    if params.hasBias:
        offset = _per_element(layer, layer.weights("bias", (math.prod(params.shapeBias),)), params.shapeBias)
    if (
        x.value in net.normalized_rows
        and offset is not None
        and factor.shape == offset.shape == (1, 1, x.shape[-1])
    ):
        return net.blob(_layer_norm(net, layer, x, factor, offset), x.shape)
    value = net.node("Mul", net.image(x), net.constant(factor, f"{layer.name}.scale"))
    if offset is not None:
        value = net.node("Add", value, net.constant(offset, f"{layer.name}.bias"))
    return net.blob(value, _same_shape(layer, net, value, x))


def _layer_norm(net: Network, layer: Layer, x: Blob, factor: NDArray[Any], offset: NDArray[Any]) -> str:
    """Normalizing rows and scaling them as one operator; the one without factors stays unused."""
    rows, epsilon = net.normalized_rows[x.value]
    gamma = net.constant(factor.reshape(-1), f"{layer.name}.scale")
    beta = net.constant(offset.reshape(-1), f"{layer.name}.bias")
    return net.node("LayerNormalization", rows, gamma, beta, axis=-1, epsilon=epsilon)


@layer("bias")
def bias(net: Network, layer: Layer, x: Blob) -> Blob:
    """`BiasLayerParams`: a bias per tensor, channel or element."""
    params = layer.params
    offset = _per_element(layer, layer.weights("bias", (math.prod(params.shape),)), params.shape)
    value = net.node("Add", net.image(x), net.constant(offset, f"{layer.name}.bias"))
    return net.blob(value, _same_shape(layer, net, value, x))


def _per_element(layer: Layer, values: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """Values of shape [1], [C], [1, H, W] or [C, H, W], so that they broadcast to (C, H, W)."""
    if len(shape) == 1:
        return values.reshape(-1, 1, 1)
    if len(shape) == 3:
        return values.reshape([int(size or 0) for size in shape])
    raise layer.unsupported(f"a shape of length {len(shape)}")


def _same_shape(layer: Layer, net: Network, value: str, x: Blob) -> Shape:
    if net.shape(value)[-3:] != x.shape[-3:]:
        raise layer.unsupported(f"weights that do not fit an input of shape {x.shape}")
    return x.shape
