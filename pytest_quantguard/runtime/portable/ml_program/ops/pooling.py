"""Poolings (MIL family `pool`)."""

import math
from dataclasses import dataclass

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.ops.padding import AUTO_PAD, spatial_padding
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@dataclass(frozen=True)
class Window:
    """Where a pooling looks.

    Args:
        kernel: its size per spatial dimension.
        strides: the steps from window to window.
        pads: the padding before and after each dimension; None when ONNX works it out at run time.
        overhang: how far `ceil_mode` lets the last windows reach past the padded input; None when that is known
            at run time only.
    """

    kernel: list[int]
    strides: list[int]
    pads: list[tuple[int, int]] | None
    overhang: list[int] | None

    @property
    def shape(self) -> dict[str, list[int]]:
        """The ONNX attributes without the padding."""
        return {"kernel_shape": self.kernel, "strides": self.strides}


@operation("max_pool")
def max_pool(op: MilOperation) -> str:
    """The largest value of each window; padding never wins"""
    window = _window(op)
    attributes = _attributes(op, window)
    if attributes is not None:
        return op.node("MaxPool", op.tensor("x"), **attributes)
    padded = _padded(op, op.tensor("x"), window, -math.inf, -math.inf)
    return op.node("MaxPool", padded, **window.shape)


@operation("avg_pool")
def avg_pool(op: MilOperation) -> str:
    """The mean of each window, with or without the padding"""
    window, exclude = _window(op), op.flag("exclude_padding_from_average")
    attributes = _attributes(op, window)
    # As in PyTorch, what a window covers beyond the padding does not count.
    if attributes is not None and (exclude or not any(window.overhang or [])):
        return op.node("AveragePool", op.tensor("x"), count_include_pad=int(not exclude), **attributes)
    sizes = op.node("Shape", op.tensor("x"), start=2)
    ones = op.node("Expand", op.array(1, "float32"), op.node("Concat", op.array([1, 1], "int64"), sizes, axis=0))
    total = _mean(op, _padded(op, op.tensor("x"), window, 0.0, 0.0), window)
    counted = _mean(op, _padded(op, ones, window, float(not exclude), 0.0), window)
    # A window of nothing but padding has the mean 0.
    return op.node("Div", total, op.node("Max", counted, op.array(np.finfo(np.float32).tiny, "float32")))


@operation("l2_pool")
def l2_pool(op: MilOperation) -> str:
    """The square root of the sum of squares of each window"""
    window = _window(op)
    squares = op.node("Mul", op.tensor("x"), op.tensor("x"))
    attributes = _attributes(op, window)
    if attributes is not None:
        mean = op.node("AveragePool", squares, count_include_pad=1, **attributes)
    else:
        mean = _mean(op, _padded(op, squares, window, 0.0, 0.0), window)
    return op.node("Sqrt", op.node("Mul", mean, op.array(math.prod(window.kernel), "float32")))


def _mean(op: MilOperation, padded: str, window: Window) -> str:
    """The mean of each window; onnxruntime may join padding and pooling, so the padding has to count."""
    return op.node("AveragePool", padded, count_include_pad=1, **window.shape)


def _window(op: MilOperation) -> Window:
    kernel = op.integers("kernel_sizes")
    ones = [1] * len(kernel)
    strides = op.integers("strides", ones)
    pads = spatial_padding(op, kernel, strides, ones)
    if not op.flag("ceil_mode"):
        return Window(kernel, strides, pads, [0] * len(kernel))
    sizes = [size for size in op.shape("x")[2:] if size is not None]
    if len(sizes) < len(kernel) or pads is None:
        return Window(kernel, strides, pads, None)
    overhang = [_overhang(op, *numbers) for numbers in zip(sizes, kernel, strides, pads, strict=True)]
    return Window(kernel, strides, pads, overhang)


def _attributes(op: MilOperation, window: Window) -> dict[str, object] | None:
    """The ONNX attributes of a window; None where ONNX cannot say it."""
    if window.overhang is None:
        return None
    if window.pads is None:
        return {**window.shape, "auto_pad": AUTO_PAD[op.text("pad_type")]}
    pads = [before for before, _ in window.pads]
    pads += [after + extra for (_, after), extra in zip(window.pads, window.overhang, strict=True)]
    if any(not 0 <= pad < length for pad, length in zip(pads, window.kernel * 2, strict=True)):
        return None
    return {**window.shape, "pads": pads}


def _overhang(op: MilOperation, size: int, length: int, stride: int, pads: tuple[int, int]) -> int:
    """How far the last window of `ceil_mode` reaches past the padded input (docstring of MIL's avg_pool).

    A negative number is the padding that no window covers.
    """
    padded = size + sum(pads)
    steps = -(-(padded - length) // stride)
    if steps * stride >= size + pads[0]:
        if not sum(pads):
            op.refuse("ceil_mode with a window that lies outside the input")
        steps -= 1
    return steps * stride + length - padded


def _padded(op: MilOperation, tensor: str, window: Window, value: float, beyond: float) -> str:
    """A tensor with the padding as elements of a value, and behind it the overhang as elements of another."""
    axes = op.array(range(2, 2 + len(window.kernel)), "int64")
    if window.pads is None:
        op.refuse("ceil_mode with padding 'same' over a flexible shape")
    befores, afters = zip(*window.pads, strict=True)
    pads = op.array([*befores, *afters], "int64")
    result = op.node("Pad", tensor, pads, op.array(value, "float32"), axes)
    none = op.array([0] * len(window.kernel), "int64")
    extra = op.array(window.overhang, "int64") if window.overhang is not None else _late_overhang(op, window)
    margins = op.node("Concat", none, extra, axis=0)
    return op.node("Pad", result, margins, op.array(beyond, "float32"), axes)


def _late_overhang(op: MilOperation, window: Window) -> str:
    """`_overhang` of all dimensions, computed at run time."""
    assert window.pads is not None
    befores, afters = (np.array(numbers) for numbers in zip(*window.pads, strict=True))
    kernel, strides = np.array(window.kernel), np.array(window.strides)
    sizes = op.node("Shape", op.tensor("x"), start=2)
    step = op.array(strides, "int64")
    reach = op.node("Add", sizes, op.array(befores + afters - kernel, "int64"))
    steps = op.node("Div", op.node("Add", reach, op.array(strides - 1, "int64")), step)
    start = op.node("Mul", steps, step)
    outside = op.node("GreaterOrEqual", start, op.node("Add", sizes, op.array(befores, "int64")))
    outside = op.node("And", outside, op.array(befores + afters > 0, "bool"))
    start = op.node("Where", outside, op.node("Sub", start, step), start)
    return op.node("Sub", start, reach)
