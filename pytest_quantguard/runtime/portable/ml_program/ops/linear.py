"""Matrix products (MIL family `linear`)."""

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@operation("linear")
def linear(op: MilOperation) -> str:
    """x times the transposed weight, plus the bias"""
    _check_types(op, "x", "weight")
    x, dtype = op.tensor("x"), op.computed_type("x")
    bias = [op.tensor_as("bias", dtype)] if op.has("bias") else []
    if op.rank("x") == 2 and dtype == "float32":
        return op.node("Gemm", x, op.tensor_as("weight", dtype), *bias, transB=1)
    if op.is_constant("weight"):
        weight = op.array(op.constant("weight").T, dtype)
    else:
        weight = op.node("Transpose", op.tensor("weight"), perm=[1, 0])
    product = op.node("MatMul", x, weight)
    return op.node("Add", product, *bias) if bias else product


@operation("matmul")
def matmul(op: MilOperation) -> str:
    """numpy's matmul, optionally with the last two dimensions of either side swapped"""
    dtype = op.computed_type("y" if op.is_constant("x") else "x")
    _check_types(op, *(("y", "x") if op.is_constant("x") else ("x", "y")))
    sides = []
    for side in ("x", "y"):
        tensor = op.tensor_as(side, dtype)
        rank = op.rank(side)
        if op.flag(f"transpose_{side}") and rank > 1:
            order = list(range(rank))
            tensor = op.node("Transpose", tensor, perm=[*order[:-2], order[-1], order[-2]])
        sides.append(tensor)
    return op.node("MatMul", *sides)


@operation("einsum")
def einsum(op: MilOperation) -> str:
    """Einstein summation of two tensors; dimensions of size 1 broadcast

    They are repeated first: onnxruntime takes the first size it sees of a letter for the result's.
    """
    equation = op.text("equation").replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    shapes = [op.shape("values", index) for index in range(len(op.values("values")))]
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size or 1)
    tensors = []
    for tensor, term, shape in zip(op.tensors("values"), terms, shapes, strict=True):
        repeats = [sizes[letter] if size == 1 else 1 for letter, size in zip(term, shape, strict=True)]
        known = max(repeats, default=1) > 1
        tensors.append(op.node("Expand", tensor, op.array(repeats, "int64")) if known else tensor)
    return op.node("Einsum", *tensors, equation=equation)


def _check_types(op: MilOperation, given: str, constant: str) -> None:
    """From iOS 17 on a constant side may be of another type; the result has the type of the other side."""
    if op.computed_type(given) == "float32" or op.computed_type(constant) == "int32":
        return
    values = op.constant(constant)
    if not np.array_equal(values, np.trunc(values)):
        op.refuse("the product of whole numbers and fractions")
