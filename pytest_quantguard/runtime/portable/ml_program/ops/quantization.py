"""Quantizing and dequantizing of tensors that are not weights (MIL family `quantization_ops`, iOS 17)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

RANGES = {"uint8": (0, 255), "int8": (-128, 127)}


@operation("quantize")
def quantize(op: MilOperation) -> str:
    """clip(round(input / scale) + zero_point)"""
    dtype = op.text("output_dtype")
    if dtype not in RANGES:
        op.refuse(f"output_dtype '{dtype}'")
    quantized = op.node("Round", op.node("Div", op.tensor("input"), _along_axis(op, "scale")))
    if op.has("zero_point"):
        quantized = op.node("Add", quantized, _along_axis(op, "zero_point"))
    low, high = (op.array(bound, "float32") for bound in RANGES[dtype])
    return op.cast(op.node("Clip", quantized, low, high), "int32")


@operation("dequantize")
def dequantize(op: MilOperation) -> str:
    """scale * (input - zero_point)"""
    values = op.cast(op.tensor("input"), "float32")
    if op.has("zero_point"):
        values = op.node("Sub", values, _along_axis(op, "zero_point"))
    return op.node("Mul", values, _along_axis(op, "scale"))


def _along_axis(op: MilOperation, parameter: str) -> str:
    """A constant scalar or vector shaped to broadcast along `axis` of the input, in floating point."""
    constant = op.constant(parameter)
    rank = op.rank("input")
    if constant.ndim == 0:
        op.ignore("axis")
        return op.array(constant, "float32")
    shape = [1] * rank
    shape[op.axis("axis", rank)] = constant.size
    return op.array(constant.reshape(shape), "float32")
