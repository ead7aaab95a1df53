"""Reductions (MIL family `reduction`)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import Writer, operation

SAME_FUNCTION = {
    "reduce_l1_norm": "ReduceL1",
    "reduce_l2_norm": "ReduceL2",
    "reduce_log_sum": "ReduceLogSum",
    "reduce_log_sum_exp": "ReduceLogSumExp",
    "reduce_max": "ReduceMax",
    "reduce_mean": "ReduceMean",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
    "reduce_sum_square": "ReduceSumSquare",
}
"""MIL operations that ONNX has with the same meaning; without `axes` they reduce all dimensions."""


def _writer(operator: str) -> Writer:
    def write(op: MilOperation) -> str:
        axes = []
        if op.has("axes"):
            numbers = op.integers("axes")
            if not numbers:
                op.refuse("an empty list of axes")
            axes = [op.array(numbers, "int64")]
        return op.node(operator, op.tensor("x"), *axes, keepdims=int(op.flag("keep_dims")))

    return write


for _name, _operator in SAME_FUNCTION.items():
    operation(_name)(_writer(_operator))


@operation("reduce_argmax", "reduce_argmin")
def reduce_arg(op: MilOperation) -> str:
    """The index of the largest or smallest value along an axis, the first one among equals"""
    op.ignore("output_dtype")
    operator = "ArgMax" if op.name == "reduce_argmax" else "ArgMin"
    axis = op.axis("axis", op.rank("x"), -1)
    index = op.node(operator, op.tensor("x"), axis=axis, keepdims=int(op.flag("keep_dims")))
    return op.cast(index, "int32")
