"""Comparisons that cannot come out right, since the program computes in float16."""

from typing import Any

import numpy as np

FLOAT16_ERROR = 2.0**-8
"""How far an answer of float16 arithmetic may be off, relative to the largest value: eight times its rounding."""


def finer_than_float16(actual: Any, desired: Any, rtol: float, atol: float) -> bool:
    """Whether an answer is right as far as float16 goes, while the tolerance asks for more digits than it has.

    Some tests make programs of float16 tensors, expect float32 values, and allow the error of float32. All three
    must hold: the answer consists of float16 numbers; the expected values, rounded to float16, miss the tolerance
    as well; and the answer is as close to them as float16 arithmetic comes.
    """
    found, expected = np.asarray(actual), np.asarray(desired)
    if found.shape != expected.shape or found.dtype.kind != "f" or expected.dtype.kind != "f":
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        half = expected.astype(np.float16).astype(np.float64)
        is_half = np.array_equal(found, found.astype(np.float16), equal_nan=True)
        missed = not np.allclose(half, expected, rtol=rtol, atol=atol, equal_nan=True)
        largest = np.max(np.abs(expected), initial=0)
        close = np.allclose(found, expected, rtol=0, atol=FLOAT16_ERROR * largest, equal_nan=True)
    return bool(is_half and missed and close)
