"""Matrix products (MIL family `linear`)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@operation("linear")
def linear(op: MilOperation) -> str:
    """x times the transposed weight, plus the bias"""
    x = op.tensor("x")
    if op.rank("x") == 2 and op.is_float("x"):
        bias = [op.tensor("bias")] if op.has("bias") else []
        return op.node("Gemm", x, op.tensor("weight"), *bias, transB=1)
    if op.is_constant("weight"):
        weight = op.array(op.constant("weight").T, op.computed_type("weight"))
    else:
        weight = op.node("Transpose", op.tensor("weight"), perm=[1, 0])
    product = op.node("MatMul", x, weight)
    return op.node("Add", product, op.tensor("bias")) if op.has("bias") else product


@operation("matmul")
def matmul(op: MilOperation) -> str:
    """numpy's matmul, optionally with the last two dimensions of either side swapped"""
    sides = []
    for side in ("x", "y"):
        tensor = op.tensor(side)
        rank = op.rank(side)
        if op.flag(f"transpose_{side}") and rank > 1:
            order = list(range(rank))
            tensor = op.node("Transpose", tensor, perm=[*order[:-2], order[-1], order[-2]])
        sides.append(tensor)
    return op.node("MatMul", *sides)


@operation("einsum")
def einsum(op: MilOperation) -> str:
    """Einstein summation of two tensors; dimensions of size 1 broadcast"""
    equation = op.text("equation").replace(" ", "")
    if "..." in equation or "->" not in equation:
        op.refuse(f"equation '{equation}'")
    return op.node("Einsum", *op.tensors("values"), equation=equation)
