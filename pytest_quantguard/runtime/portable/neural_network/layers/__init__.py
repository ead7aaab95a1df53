"""One short function per layer type; importing a module puts its functions into the registry."""

from pytest_quantguard.runtime.portable.neural_network.layers import (
    activation,
    concat,
    constant,
    convolution,
    elementwise,
    gather,
    inner_product,
    normalization,
    padding,
    pooling,
    reduce,
    resize,
    shape,
    slicing,
    triangular,
    unary,
)

__all__ = [
    "activation",
    "concat",
    "constant",
    "convolution",
    "elementwise",
    "gather",
    "inner_product",
    "normalization",
    "padding",
    "pooling",
    "reduce",
    "resize",
    "shape",
    "slicing",
    "triangular",
    "unary",
]
