"""Attention (MIL family `transformers`)."""

import math

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@operation("scaled_dot_product_attention")
def scaled_dot_product_attention(op: MilOperation) -> str:
    """softmax(query key^T / sqrt(E) + mask) value; a mask of truth values keeps where it is true"""
    rank = op.rank("query")
    order = list(range(rank))
    keys = op.node("Transpose", op.tensor("key"), perm=[*order[:-2], order[-1], order[-2]])
    scores = op.node("MatMul", op.tensor("query"), keys)
    scores = op.node("Mul", scores, _factor(op))
    if op.has("attn_mask"):
        mask = op.tensor("attn_mask")
        if op.computed_type("attn_mask") == "bool":
            mask = op.node("Where", mask, op.array(0, "float32"), op.array(-math.inf, "float32"))
        scores = op.node("Add", scores, mask)
    return op.node("MatMul", op.node("Softmax", scores, axis=-1), op.tensor("value"))


def _factor(op: MilOperation) -> str:
    """One divided by the square root of the embedding size."""
    size = op.shape("query")[-1]
    if size is not None:
        return op.array(1 / math.sqrt(size), "float32")
    root = op.node("Sqrt", op.cast(op.node("Shape", op.tensor("query"), start=-1), "float32"))
    return op.node("Reciprocal", root)
