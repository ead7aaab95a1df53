"""A project's own `lut_function`, checked and adapted to both kinds of model."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.scheme import LutFunction

Table = tuple[NDArray[Any], NDArray[np.uint8]]


def for_networks(lut_function: LutFunction) -> Callable[[int, NDArray[Any]], Table]:
    """As `quantize_weights(lut_function=...)` calls it: (bits, weights) to (table, indices)."""

    def make(bits: int, weights: NDArray[Any]) -> Table:
        return _checked(lut_function, bits, weights)

    return make


def for_programs(lut_function: LutFunction, bits: int, cluster_dim: int = 1) -> Callable[[NDArray[Any]], Table]:
    """As `OpPalettizerConfig(mode="custom", lut_function=...)` calls it: weights to (table, indices).

    The table becomes of the weights' own type. With `cluster_dim` it holds vectors of that length, which lie along
    the first axis of the weights: shape (2**bits, cluster_dim), and an index for each vector.
    """

    def make(weights: NDArray[Any]) -> Table:
        table, indices = _checked(lut_function, bits, weights, cluster_dim)
        table = table.astype(weights.dtype)
        return table.reshape(-1, cluster_dim) if cluster_dim > 1 else table, indices

    return make


def _checked(lut_function: LutFunction, bits: int, weights: NDArray[Any], cluster_dim: int = 1) -> Table:
    """Call the function with float64 weights and check its answer; coremltools stores a wrong one without a word.

    Returns:
        table: float64 of shape (2**bits * cluster_dim,).
        indices: uint8 of shape (weights.size // cluster_dim,).

    Raises:
        SchemeError: the function failed, or its answer is no table with indices into it.
    """
    where = f"lut_function, given {bits} bits and weights of shape {weights.shape},"
    try:
        table, indices = lut_function(bits, weights.astype(np.float64))
        table = np.asarray(table, np.float64).ravel()
        indices = np.asarray(indices).ravel()
    except Exception as error:
        # Whatever a function of the project raises: coremltools would replace it by an AttributeError.
        raise SchemeError(f"{where} failed with {type(error).__name__}: {error}; correct the function.") from error
    count, size = 2**bits * cluster_dim, weights.size // cluster_dim
    if table.size != count or not np.isfinite(table).all():
        raise SchemeError(f"{where} returned {table.size} table values; return {count} finite ones.")
    if indices.size != size:
        per = "weight" if cluster_dim == 1 else f"{cluster_dim} weights"
        raise SchemeError(f"{where} returned {indices.size} indices; return one per {per}, {size}.")
    if (indices != np.clip(np.round(indices), 0, 2**bits - 1)).any():
        raise SchemeError(
            f"{where} returned indices that are no whole numbers from 0 to {2**bits - 1}; clip them."
        )
    return table, indices.astype(np.uint8)
