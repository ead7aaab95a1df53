"""Tensors that do not come from an input: constants, fillings and ranges."""

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

# Values of a range; a damaged file must not exhaust the memory.
_LONGEST = 2**26


@layer("loadConstant", "loadConstantND")
def load_constant(net: Network, layer: Layer) -> Blob:
    """`LoadConstantLayerParams`: rank 5 from a shape (C, H, W); `LoadConstantNDLayerParams`: of any shape."""
    array = constant_array(layer)
    # Rank 5 travels as (batch, channels, height, width).
    return net.blob(net.constant(array[0] if layer.kind == "loadConstant" else array, layer.name), array.shape)


def constant_array(layer: Layer) -> NDArray[np.float32]:
    """The values of a constant layer in the shape of its output."""
    shape = tuple(int(size) for size in layer.params.shape)
    if layer.kind == "loadConstantND":
        return layer.weights("data", shape)
    if len(shape) != 3:
        raise layer.unsupported(f"a shape of length {len(shape)} (3 is needed)")
    return layer.weights("data", shape)[None, None]


@layer("fillStatic")
def fill_static(net: Network, layer: Layer) -> Blob:
    """`FillStaticLayerParams`."""
    shape = [int(size) for size in layer.params.targetShape]
    return net.blob(_filled(net, layer, net.constant(shape)), tuple(shape))


@layer("fillLike")
def fill_like(net: Network, layer: Layer, x: Blob) -> Blob:
    """`FillLikeLayerParams`: the shape of the input."""
    return net.blob(_filled(net, layer, net.size_of(x)), x.shape)


@layer("fillDynamic")
def fill_dynamic(net: Network, layer: Layer, shape: Blob) -> Blob:
    """`FillDynamicLayerParams`: the shape is the input's values."""
    rank = shape.size
    unknown: Shape = (None,) * rank
    return net.blob(_filled(net, layer, net.vector(shape)), unknown)


def _filled(net: Network, layer: Layer, shape: str) -> str:
    return net.node("Expand", net.constant(float(layer.params.value)), shape)


@layer("rangeStatic")
def range_static(net: Network, layer: Layer) -> Blob:
    """`RangeStaticLayerParams`."""
    params = layer.params
    if not params.stepSizeValue or abs(params.endValue - params.startValue) > abs(params.stepSizeValue) * _LONGEST:
        raise layer.unsupported(f"a step of {params.stepSizeValue} up to {params.endValue}")
    values = np.arange(params.startValue, params.endValue, params.stepSizeValue, dtype=np.float32)
    return net.blob(net.constant(values, layer.name))


@layer("rangeDynamic")
def range_dynamic(
    net: Network, layer: Layer, end: Blob, start: Blob | None = None, step: Blob | None = None
) -> Blob:
    """`RangeDynamicLayerParams`."""
    first = net.constant(float(layer.params.startValue)) if start is None else net.reshaped(start, ())
    stride = net.constant(float(layer.params.stepSizeValue)) if step is None else net.reshaped(step, ())
    return net.blob(net.node("Range", first, net.reshaped(end, ()), stride))
