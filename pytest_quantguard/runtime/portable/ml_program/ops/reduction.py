"""Reductions (MIL family `reduction`)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import Result, Writer, operation

SAME_FUNCTION = {
    "reduce_l1_norm": "ReduceL1",
    "reduce_l2_norm": "ReduceL2",
    "reduce_log_sum": "ReduceLogSum",
    "reduce_log_sum_exp": "ReduceLogSumExp",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
    "reduce_sum_square": "ReduceSumSquare",
}
"""MIL operations that ONNX has with the same meaning; without `axes` they reduce all dimensions."""


def _writer(operator: str) -> Writer:
    def write(op: MilOperation) -> str:
        keep = op.flag("keep_dims")
        if not op.has("axes"):
            return op.node(operator, op.tensor("x"), keepdims=int(keep))
        axes = op.integers("axes")
        if not axes:
            # ONNX would reduce all of them: the function of each element by itself is wanted.
            alone = op.node("Unsqueeze", op.tensor("x"), op.array([-1], "int64"))
            return op.node(operator, alone, op.array([-1], "int64"), keepdims=0)
        return op.node(operator, op.tensor("x"), op.array(axes, "int64"), keepdims=int(keep))

    return write


for _name, _operator in SAME_FUNCTION.items():
    operation(_name)(_writer(_operator))


@operation("reduce_mean")
def reduce_mean(op: MilOperation) -> Result:
    """The mean; of each channel of images as pooling, which onnxruntime does in its convolutions' layout"""
    shape = op.type_of("x").shape
    if shape is not None and len(shape) == 4 and op.is_constant("axes") and op.is_float("x"):
        axes = sorted(axis + 4 if axis < 0 else axis for axis in op.integers("axes"))
        if axes == [2, 3] and op.flag("keep_dims"):
            return op.node("GlobalAveragePool", op.tensor("x"))
    return _writer("ReduceMean")(op)


@operation("reduce_argmax", "reduce_argmin")
def reduce_arg(op: MilOperation) -> str:
    """The index of the largest or smallest value along an axis, the first one among equals"""
    op.ignore("output_dtype")
    operator = "ArgMax" if op.name == "reduce_argmax" else "ArgMin"
    axis = op.axis("axis", op.rank("x"), -1)
    index = op.node(operator, op.tensor("x"), axis=axis, keepdims=int(op.flag("keep_dims")))
    return op.cast(index, "int32")
