"""Comparisons that cannot come out right, since the program computes in float16."""

from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantguard.models.files import read_model_file

FLOAT16_ERROR = 2.0**-6
"""How far an answer of float16 arithmetic may be off, relative to the largest value.

That is 32 times its rounding, for programs of many steps; coremltools allows 0.05 and more where it tests float16.
"""


def finer_than_float16(actual: Any, desired: Any, rtol: float, atol: float, *, stored: bool = False) -> bool:
    """Whether an answer is right as far as float16 goes, while the tolerance asks for more digits than it has.

    Some tests make programs of float16 tensors, expect float32 values, and allow the error of float32. All three
    must hold: the answer or the expected values consist of float16 numbers, or the file stores weights as such
    (`stored`); the tolerance is less than the distance of two of them; and the answer is as close to the expected
    values as float16 arithmetic comes.
    """
    found, expected = np.asarray(actual), np.asarray(desired)
    if found.shape != expected.shape or found.dtype.kind != "f" or expected.dtype.kind != "f":
        return False
    largest = np.max(np.abs(expected), initial=0)
    if not largest < np.finfo(np.float16).max:
        return False
    sides = (found, expected)
    is_half = stored or any(np.array_equal(side, side.astype(np.float16), equal_nan=True) for side in sides)
    finer = atol + rtol * largest < np.spacing(np.float16(largest))
    close = np.allclose(found, expected, rtol=0, atol=FLOAT16_ERROR * largest, equal_nan=True)
    return bool(is_half and finer and close)


def stores_float16(path: Path) -> bool:
    """Whether an ML program holds constants of float16, so that it cannot know what they were before."""
    spec = read_model_file(path).spec
    float16 = type(spec).DESCRIPTOR.file.pool.FindEnumTypeByName("CoreML.Specification.MILSpec.DataType")
    number = float16.values_by_name["FLOAT16"].number
    return any(
        operation.type == "const"
        and operation.outputs[0].type.tensorType.dataType == number
        and operation.outputs[0].type.tensorType.rank > 0
        for function in spec.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in block.operations
    )
