"""The MIL operations, one file per family; importing this package fills the table of `registry.py`."""

from pytest_quantguard.runtime.portable.ml_program.ops import (
    activation,
    attention,
    constexpr,
    convolution,
    elementwise_binary,
    elementwise_unary,
    image_resizing,
    image_sampling,
    linear,
    normalization,
    pooling,
    quantization,
    reduction,
    scatter_gather,
    slicing,
    tensor_operation,
    tensor_transformation,
)
from pytest_quantguard.runtime.portable.ml_program.registry import DECODERS, WRITERS

__all__ = [
    "DECODERS",
    "WRITERS",
    "activation",
    "attention",
    "constexpr",
    "convolution",
    "elementwise_binary",
    "elementwise_unary",
    "image_resizing",
    "image_sampling",
    "linear",
    "normalization",
    "pooling",
    "quantization",
    "reduction",
    "scatter_gather",
    "slicing",
    "tensor_operation",
    "tensor_transformation",
]
