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


def for_programs(lut_function: LutFunction, bits: int) -> Callable[[NDArray[Any]], Table]:
    """As `OpPalettizerConfig(mode="custom", lut_function=...)` calls it: weights to (table, indices).

    The table becomes of the weights' own type.
    """

    def make(weights: NDArray[Any]) -> Table:
        table, indices = _checked(lut_function, bits, weights)
        return table.astype(weights.dtype), indices

    return make


def _checked(lut_function: LutFunction, bits: int, weights: NDArray[Any]) -> Table:
    """Call the function with float64 weights and check its answer; coremltools stores a wrong one without a word.

    Returns:
        table: float64 of shape (2**bits,).
        indices: uint8 of shape (weights.size,).

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
    if table.size != 2**bits or not np.isfinite(table).all():
        raise SchemeError(f"{where} returned {table.size} table values; return {2**bits} finite ones.")
    if indices.size != weights.size:
        raise SchemeError(f"{where} returned {indices.size} indices; return one per weight, {weights.size}.")
    if (indices != np.clip(np.round(indices), 0, 2**bits - 1)).any():
        raise SchemeError(
            f"{where} returned indices that are no whole numbers from 0 to {2**bits - 1}; clip them."
        )
    return table, indices.astype(np.uint8)
