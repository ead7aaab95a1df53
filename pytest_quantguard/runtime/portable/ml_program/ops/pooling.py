"""Poolings (MIL family `pool`)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.ops.padding import padding_attributes, spatial_padding
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@dataclass(frozen=True)
class Window:
    """The attributes of an ONNX pooling, and what `ceil_mode` added to them.

    Args:
        attributes: kernel_shape, strides and pads (or auto_pad).
        size: elements of the kernel.
        overhang: per spatial dimension the elements past the padded input that the last window covers.
    """

    attributes: dict[str, object]
    size: int
    overhang: list[int]


@operation("max_pool")
def max_pool(op: MilOperation) -> str:
    """The largest value of each window; padding never wins"""
    return op.node("MaxPool", op.tensor("x"), **_window(op).attributes)


@operation("avg_pool")
def avg_pool(op: MilOperation) -> str:
    """The mean of each window, with or without the padding"""
    window = _window(op)
    exclude = op.flag("exclude_padding_from_average")
    mean = op.node("AveragePool", op.tensor("x"), count_include_pad=int(not exclude), **window.attributes)
    if exclude or not any(window.overhang):
        return mean
    # As in PyTorch, what a window covers beyond the padding does not count.
    counts = _covered(op, window)
    return op.node("Mul", mean, op.array(window.size / counts, "float32"))


@operation("l2_pool")
def l2_pool(op: MilOperation) -> str:
    """The square root of the sum of squares of each window"""
    window = _window(op)
    x = op.tensor("x")
    mean = op.node("AveragePool", op.node("Mul", x, x), count_include_pad=1, **window.attributes)
    return op.node("Sqrt", op.node("Mul", mean, op.array(window.size, "float32")))


def _window(op: MilOperation) -> Window:
    kernel = op.integers("kernel_sizes")
    ones = [1] * len(kernel)
    strides = op.integers("strides", ones)
    overhang = [0] * len(kernel)
    attributes = padding_attributes(op, kernel, strides, ones)
    if op.flag("ceil_mode") and any(stride > 1 for stride in strides):
        pads = spatial_padding(op, kernel, strides, ones)
        sizes = op.static_shape("x")[2:]
        assert pads is not None
        overhang = [_overhang(op, *numbers) for numbers in zip(sizes, kernel, strides, pads, strict=True)]
        ends = [after + extra for (_, after), extra in zip(pads, overhang, strict=True)]
        attributes = {"pads": [before for before, _ in pads] + ends}
    padding = attributes.get("pads", [])
    if any(pad >= length for pad, length in zip(padding, kernel * 2, strict=False)):
        op.refuse("padding that is as large as the kernel")
    return Window({"kernel_shape": kernel, "strides": strides, **attributes}, math.prod(kernel), overhang)


def _overhang(op: MilOperation, size: int, length: int, stride: int, pads: tuple[int, int]) -> int:
    """How far the last window of `ceil_mode` reaches past the padded input (docstring of MIL's avg_pool)."""
    padded = size + sum(pads)
    steps = -(-(padded - length) // stride)
    if steps * stride >= size + pads[0]:
        if not sum(pads):
            op.refuse("ceil_mode with a window that lies outside the input")
        steps -= 1
    return max(steps * stride + length - padded, 0)


def _covered(op: MilOperation, window: Window) -> NDArray[np.float32]:
    """How many elements of the padded input each window covers, shaped to broadcast over batch and channels."""
    kernel, strides = op.integers("kernel_sizes"), op.integers("strides", [1] * len(window.overhang))
    pads = window.attributes["pads"]
    assert isinstance(pads, list)
    counts = np.ones((), np.float32)
    for index, (length, stride, extra) in enumerate(zip(kernel, strides, window.overhang, strict=True)):
        padded = op.static_shape("x")[2 + index] + pads[index] + pads[index + len(kernel)]
        starts = np.arange(0, padded - length + 1, stride)
        covered = np.minimum(starts + length, padded - extra) - starts
        counts = counts[..., None] * covered
    return counts
