"""Activation functions (MIL family `activation`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@operation("relu")
def relu(op: MilOperation) -> str:
    """max(x, 0)"""
    return op.node("Relu", op.tensor("x"))


@operation("relu6")
def relu6(op: MilOperation) -> str:
    """min(max(x, 0), 6)"""
    return op.node("Clip", op.tensor("x"), op.array(0, "float32"), op.array(6, "float32"))


@operation("clamped_relu")
def clamped_relu(op: MilOperation) -> str:
    """min(beta, x) where x >= 0, min(beta, alpha * x) elsewhere"""
    leaky = op.node("LeakyRelu", op.tensor("x"), alpha=op.number("alpha"))
    return op.node("Min", leaky, op.array(op.number("beta"), "float32"))


@operation("leaky_relu")
def leaky_relu(op: MilOperation) -> str:
    """x where x >= 0, alpha * x elsewhere"""
    return op.node("LeakyRelu", op.tensor("x"), alpha=op.number("alpha"))


@operation("thresholded_relu")
def thresholded_relu(op: MilOperation) -> str:
    """x where x >= alpha, 0 elsewhere (ONNX's ThresholdedRelu drops x == alpha)"""
    x = op.tensor("x")
    kept = op.node("GreaterOrEqual", x, op.array(op.number("alpha"), "float32"))
    return op.node("Where", kept, x, op.array(0, "float32"))


@operation("prelu")
def prelu(op: MilOperation) -> str:
    """x where x > 0, alpha * x elsewhere, with an alpha per channel (dimension 1)"""
    return op.node("PRelu", op.tensor("x"), op.array(_per_channel(op, "alpha"), "float32"))


@operation("elu")
def elu(op: MilOperation) -> str:
    """x where x > 0, alpha * (exp(x) - 1) elsewhere"""
    return op.node("Elu", op.tensor("x"), alpha=op.number("alpha"))


@operation("gelu")
def gelu(op: MilOperation) -> str:
    """x times the normal distribution function, exact or in one of two approximations"""
    x = op.tensor("x")
    mode = op.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        gate = op.node("Sigmoid", op.node("Mul", x, op.array(1.702, "float32")))
        return op.node("Mul", x, gate)
    if mode not in ("EXACT", "TANH_APPROXIMATION"):
        op.refuse(f"mode '{mode}'")
    return op.node("Gelu", x, approximate="none" if mode == "EXACT" else "tanh")


@operation("silu")
def silu(op: MilOperation) -> str:
    """x * sigmoid(x)"""
    x = op.tensor("x")
    return op.node("Mul", x, op.node("Sigmoid", x))


@operation("sigmoid")
def sigmoid(op: MilOperation) -> str:
    """1 / (1 + exp(-x))"""
    return op.node("Sigmoid", op.tensor("x"))


@operation("sigmoid_hard")
def sigmoid_hard(op: MilOperation) -> str:
    """min(max(alpha * x + beta, 0), 1)"""
    return op.node("HardSigmoid", op.tensor("x"), alpha=op.number("alpha"), beta=op.number("beta"))


@operation("linear_activation")
def linear_activation(op: MilOperation) -> str:
    """alpha * x + beta"""
    scaled = op.node("Mul", op.tensor("x"), op.array(op.number("alpha"), "float32"))
    return op.node("Add", scaled, op.array(op.number("beta"), "float32"))


@operation("scaled_tanh")
def scaled_tanh(op: MilOperation) -> str:
    """alpha * tanh(beta * x)"""
    inner = op.node("Mul", op.tensor("x"), op.array(op.number("beta"), "float32"))
    return op.node("Mul", op.node("Tanh", inner), op.array(op.number("alpha"), "float32"))


@operation("softplus")
def softplus(op: MilOperation) -> str:
    """log(1 + exp(x))"""
    return op.node("Softplus", op.tensor("x"))


@operation("softplus_parametric")
def softplus_parametric(op: MilOperation) -> str:
    """alpha * log(1 + exp(beta * x)), with alpha and beta per channel (dimension 1)"""
    inner = op.node("Mul", op.tensor("x"), op.array(_per_channel(op, "beta"), "float32"))
    return op.node("Mul", op.node("Softplus", inner), op.array(_per_channel(op, "alpha"), "float32"))


@operation("softsign")
def softsign(op: MilOperation) -> str:
    """x / (1 + |x|)"""
    return op.node("Softsign", op.tensor("x"))


@operation("softmax")
def softmax(op: MilOperation) -> str:
    """exp(x) divided by its sum along an axis"""
    return op.node("Softmax", op.tensor("x"), axis=op.axis("axis", op.rank("x"), -1))


def _per_channel(op: MilOperation, parameter: str) -> NDArray[Any]:
    """A vector shaped to broadcast along dimension 1 of `x`."""
    vector = op.constant(parameter)
    return np.asarray(vector.reshape(-1, *[1] * (op.rank("x") - 2)))
