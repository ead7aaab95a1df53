"""Normalizations (MIL family `normalization`)."""

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@operation("batch_norm")
def batch_norm(op: MilOperation) -> str:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, per channel (dimension 1)"""
    return op.node(
        "BatchNormalization",
        op.tensor("x"),
        _per_channel(op, "gamma", 1),
        _per_channel(op, "beta", 0),
        op.tensor("mean"),
        op.tensor("variance"),
        epsilon=op.number("epsilon", 1e-5),
    )


@operation("instance_norm")
def instance_norm(op: MilOperation) -> str:
    """Each channel of each sample by its own mean and variance"""
    return op.node(
        "InstanceNormalization",
        op.tensor("x"),
        _per_channel(op, "gamma", 1),
        _per_channel(op, "beta", 0),
        epsilon=op.number("epsilon", 1e-5),
    )


@operation("layer_norm")
def layer_norm(op: MilOperation) -> str:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, with mean and variance over `axes`"""
    shape = op.shape("x")
    rank = len(shape)
    axes = sorted(axis % rank for axis in op.integers("axes", range(rank)))
    epsilon = op.number("epsilon", 1e-5)
    sizes = [shape[axis] if axis in axes else 1 for axis in range(rank)]
    trailing = axes == list(range(axes[0], rank))
    if trailing and None not in sizes:
        normalized = [size for size in sizes[axes[0] :] if size is not None]
        gamma = op.constant("gamma") if op.has("gamma") else np.ones(normalized)
        beta = op.constant("beta") if op.has("beta") else np.zeros(normalized)
        scale, bias = op.array(gamma, "float32"), op.array(beta, "float32")
        return op.node("LayerNormalization", op.tensor("x"), scale, bias, axis=axes[0], epsilon=epsilon)
    axes_name = op.array(axes, "int64")
    centred = op.node("Sub", op.tensor("x"), op.node("ReduceMean", op.tensor("x"), axes_name))
    variance = op.node("ReduceMean", op.node("Mul", centred, centred), axes_name)
    deviation = op.node("Sqrt", op.node("Add", variance, op.array(epsilon, "float32")))
    result = op.node("Div", centred, deviation)
    for parameter, operator in (("gamma", "Mul"), ("beta", "Add")):
        if op.has(parameter):
            array = op.constant(parameter)
            broadcast = [array.shape[axes.index(axis)] if axis in axes else 1 for axis in range(rank)]
            result = op.node(operator, result, op.array(array.reshape(broadcast), "float32"))
    return result


@operation("l2_norm")
def l2_norm(op: MilOperation) -> str:
    """x / sqrt(sum of squares + epsilon), the sum over the last three dimensions"""
    x = op.tensor("x")
    total = op.node("ReduceSumSquare", x, op.array([-3, -2, -1], "int64"))
    total = op.node("Add", total, op.array(op.number("epsilon", 1e-6), "float32"))
    return op.node("Div", x, op.node("Sqrt", total))


@operation("local_response_norm")
def local_response_norm(op: MilOperation) -> str:
    """x / (k + alpha / size * sum of squares over neighbouring channels) ^ beta

    The channels are those of PyTorch: size // 2 before, (size - 1) // 2 after. ONNX's operator differs for even
    sizes and takes four dimensions only. Of three dimensions coremltools' test normalizes along the first.
    """
    x, rank, size = op.tensor("x"), op.rank("x"), op.integer("size")
    shape = op.node("Shape", x)
    if rank == 3:
        x = op.node("Unsqueeze", x, op.array([0], "int64"))
    # As a mean along one dimension: (n, C, ...) becomes (n, 1, C, rest), padded with zeros.
    flat = op.node("Reshape", op.node("Mul", x, x), op.array([0, 0, -1], "int64"))
    flat = op.node("Unsqueeze", flat, op.array([1], "int64"))
    pads = op.array([0, 0, size // 2, 0, 0, 0, (size - 1) // 2, 0], "int64")
    # onnxruntime may join both nodes, so the padding has to count.
    means = op.node("AveragePool", op.node("Pad", flat, pads), kernel_shape=[size, 1], count_include_pad=1)
    means = op.node("Reshape", means, shape)
    factor = op.node("Mul", means, op.array(op.number("alpha", 1e-4), "float32"))
    base = op.node("Add", factor, op.array(op.number("k", 1.0), "float32"))
    return op.node("Div", op.tensor("x"), op.node("Pow", base, op.array(op.number("beta", 0.75), "float32")))


def _per_channel(op: MilOperation, parameter: str, default: float) -> str:
    """A vector with a number for each channel of x."""
    if op.has(parameter):
        return op.tensor(parameter)
    channels = op.shape("x")[1]
    if channels is not None:
        return op.array(np.full(channels, default), "float32")
    return op.node("Expand", op.array(default, "float32"), op.node("Shape", op.tensor("x"), start=1, end=2))
