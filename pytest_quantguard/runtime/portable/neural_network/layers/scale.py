"""Factors and biases from the file: per tensor, per channel or per element."""

import math

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer


@layer("scale")
def scale(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ScaleLayerParams`: a factor and an optional bias, per tensor, channel or element."""
    params = layer.params
    factor = _per_element(layer, layer.weights("scale", (math.prod(params.shapeScale),)), params.shapeScale)
    value = net.node("Mul", net.image(x), net.constant(factor, f"{layer.name}.scale"))
    if params.hasBias:
        offset = _per_element(layer, layer.weights("bias", (math.prod(params.shapeBias),)), params.shapeBias)
        value = net.node("Add", value, net.constant(offset, f"{layer.name}.bias"))
    return net.blob(value, _same_shape(layer, net, value, x))


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
