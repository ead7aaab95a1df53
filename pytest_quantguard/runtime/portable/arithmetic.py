"""Numbers that do not fit their type."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ieee() -> np.errstate:
    """Infinity and NaN are values like others here, as in Core ML; whoever measures refuses them."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")


def numbers(values: Any) -> NDArray[Any]:
    """Values as an array of numbers or booleans.

    Raises:
        TypeError, ValueError: they are none, or lists of unequal lengths.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{array.dtype} holds no numbers")
    return array


def as_type(values: ArrayLike, dtype: str) -> NDArray[Any]:
    """An array as another type, or itself if it has that type.

    A float type rounds, beyond its range to infinity; an integer type cuts off what is behind the point.

    Raises:
        ValueError: an integer type cannot hold a value.
    """
    array, target = np.asarray(values), np.dtype(dtype)
    with ieee():
        if target.kind == "i" and array.dtype != target and array.size:
            limits = np.iinfo(target)
            low, high = array.min().item(), array.max().item()
            # As Python's numbers, which compare exactly; false for NaN.
            if not (limits.min <= low and high <= limits.max):
                raise ValueError(f"{low if low != low or low < limits.min else high} does not fit into {dtype}")
        return array.astype(target, copy=False)
