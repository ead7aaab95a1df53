"""Quantizing the values of one weight tensor of a neural network, as coremltools does, bit for bit.

All functions keep the type of the weights, float32 or float64: which of them protobuf's numbers become in numpy
depends on its version, and the last bits of scales and tables with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.schemes.kmeans import kmeans_table
from pytest_quantguard.schemes.lookup_table import for_networks
from pytest_quantguard.schemes.optimal_kmeans import optimal_table
from pytest_quantguard.schemes.repairs import smallest_scale
from pytest_quantguard.schemes.scheme import LutFunction, Scheme


@dataclass(frozen=True, eq=False)
class Quantized:
    """Indices with what they mean: scale * index + bias per channel, or an entry of the table."""

    indices: NDArray[np.uint8]
    """One per weight, in the weights' order."""
    scale: NDArray[Any] | None = None
    bias: NDArray[Any] | None = None
    table: NDArray[Any] | None = None


class TinyRange(Exception):
    """Weights whose range is so small that coremltools would replace them by one value."""


Quantizer = Callable[[NDArray[Any], int], Quantized]
"""From weights in their shape, and the axis of their output channels (0 or 1), to indices; may overwrite them."""


def quantizer(scheme: Scheme) -> Quantizer:
    """The function that a scheme of at most 8 bits quantizes each tensor with."""
    bits = scheme.bits
    if scheme.mode in ("linear", "linear_symmetric"):
        symmetric = scheme.mode == "linear_symmetric"
        smallest = smallest_scale()
        return lambda weights, axis: quantize_linear(weights, bits, axis, symmetric=symmetric, smallest=smallest)
    if scheme.mode == "linear_lut":
        smallest = smallest_scale()
        return lambda weights, axis: quantize_linear_lut(weights, bits, smallest=smallest)
    if scheme.lut_function is not None:
        function = for_networks(scheme.lut_function)
        return lambda weights, axis: quantize_custom(weights, bits, function)
    cluster = optimal_table if scheme.kmeans == "optimal" else partial(kmeans_table, overwrite=True)

    def clustered(weights: NDArray[Any], axis: int) -> Quantized:
        table, indices = cluster(weights, bits)
        return Quantized(indices, table=table)

    return clustered


def quantize_linear(
    weights: NDArray[Any], bits: int, axis: int, *, symmetric: bool = False, smallest: float = 1e-6
) -> Quantized:
    """Even steps from the smallest to the largest weight of each output channel.

    Source: coremltools' `quantization_utils._quantize_channelwise_linear`.

    Args:
        weights: any shape; a vector counts as one channel.
        bits: 1 to 8.
        axis: of the output channels, 0 or 1.
        symmetric: steps from -a to a instead, where a is the largest magnitude.
        smallest: a scale that is not above this counts as zero; the weights would come back as one value then.

    Raises:
        TinyRange: channels would lose their values, and that is more than what rounding loses elsewhere.
    """
    channels = np.moveaxis(weights, axis, 0) if weights.ndim > 1 else weights[None]
    rows = channels.reshape(len(channels), -1)
    low, high = rows.min(axis=-1), rows.max(axis=-1)
    if symmetric:
        scale = np.maximum(np.abs(low), np.abs(high)) / ((1 << bits) / 2.0 - 1)
        bias = -(1 << bits) / 2.0 * scale
        lost = ~(np.abs(scale) > smallest)
        levels = rows - bias[:, None]
        levels /= np.where(lost, np.inf, scale)[:, None].astype(rows.dtype)
    else:
        scale = (high - low) / ((1 << bits) - 1)
        bias = low
        lost = ~(np.abs(scale) > smallest)
        factor = np.divide(1.0, scale, out=np.zeros_like(scale), where=~lost)
        levels = rows - low[:, None]
        levels *= factor[:, None]
    _check_range(scale, high - low, lost)
    np.rint(levels, out=levels)
    indices = levels.astype(np.uint8).reshape(channels.shape)
    if weights.ndim > 1:
        indices = np.moveaxis(indices, 0, axis)
    return Quantized(np.ascontiguousarray(indices).ravel(), scale=scale, bias=bias)


def quantize_product(weights: NDArray[Any]) -> tuple[NDArray[np.int8], float]:
    """The int8 weights of a matrix product of integers, and their scale.

    Source: coremltools' `quantization_utils.activate_int8_int8_matrix_multiplications`, which rounds towards zero.
    """
    largest = np.maximum(np.abs(weights.min()), np.abs(weights.max()))
    if largest == 0:
        return np.zeros(weights.shape, np.int8), 0.0
    return (127.0 * (weights / largest)).astype(np.int8), float(largest / 127.0)


def quantize_linear_lut(weights: NDArray[Any], bits: int, *, smallest: float = 1e-6) -> Quantized:
    """The same with one scale for all, and the values of the steps in a table.

    Source: coremltools' `quantization_utils._get_linear_lookup_table_and_weight`.
    """
    linear = quantize_linear(weights.ravel(), bits, 0, smallest=smallest)
    assert linear.scale is not None and linear.bias is not None
    return Quantized(linear.indices, table=np.arange(2**bits) * linear.scale[0] + linear.bias[0])


def quantize_custom(weights: NDArray[Any], bits: int, function: LutFunction) -> Quantized:
    """A table and indices that a project's own function makes of the weights."""
    table, indices = function(bits, weights)
    return Quantized(np.asarray(indices, np.uint8).ravel(), table=np.asarray(table))


def _check_range(scale: NDArray[Any], extent: NDArray[Any], lost: NDArray[np.bool_]) -> None:
    """Refuse to lose a channel's values, unless they differ by less than rounding changes the other channels."""
    lost = lost & (scale > 0)
    if lost.any() and extent[lost].max() > scale.max() / 2:
        raise TinyRange
