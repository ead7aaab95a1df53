"""The paddings of convolutions and poolings (MIL parameter `pad_type`)."""

from collections.abc import Sequence
from typing import Any

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation

AUTO_PAD = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER"}


def split_same(total: int, lower: bool) -> tuple[int, int]:
    """Divide padding over both ends; an odd element goes to the end, or with `lower` to the beginning."""
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def same_padding(size: int | None, extent: int, stride: int) -> int | None:
    """How much padding makes the output ceil(size / stride) long.

    `extent` is the size of the dilated kernel. None when it depends on a size known at run time only.
    """
    if stride == 1:
        return extent - 1
    if size is None:
        return None
    return max((-(-size // stride) - 1) * stride + extent - size, 0)


def padded_input(
    op: MilOperation, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[str, dict[str, Any]]:
    """The input `x` of a convolution, and the ONNX attributes that say how to pad it."""
    x = op.tensor("x")
    pads = spatial_padding(op, kernel, strides, dilations)
    if pads is not None:
        return x, {"pads": [before for before, _ in pads] + [after for _, after in pads]}
    pad_type = op.text("pad_type")
    if all(dilation == 1 for dilation in dilations):
        return x, {"auto_pad": AUTO_PAD[pad_type]}
    # onnxruntime works out no padding of dilated kernels: zeros are added before, as many as `same_padding` says.
    extents = [(length - 1) * dilation + 1 for length, dilation in zip(kernel, dilations, strict=True)]
    sizes, step = op.node("Shape", x, start=2), op.array(strides, "int64")
    last = op.node("Div", op.node("Sub", sizes, op.array(1, "int64")), step)
    reach = op.node("Add", op.node("Mul", last, step), op.array(extents, "int64"))
    total = op.node("Max", op.node("Sub", reach, sizes), op.array(0, "int64"))
    small = op.node("Div", total, op.array(2, "int64"))
    ends = [small, op.node("Sub", total, small)]
    if pad_type == "same_lower":
        ends.reverse()
    axes = op.array(range(2, 2 + len(kernel)), "int64")
    return op.node("Pad", x, op.node("Concat", *ends, axis=0), "", axes), {}


def spatial_padding(
    op: MilOperation, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]] | None:
    """The padding before and after each spatial dimension; None when it is known at run time only."""
    pad_type = op.text("pad_type", "valid")
    custom = op.integers("pad", [0] * 2 * len(kernel))
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        if len(custom) != 2 * len(kernel) or min(custom, default=0) < 0:
            op.refuse(f"padding {custom}")
        return list(zip(custom[::2], custom[1::2], strict=True))
    if pad_type not in AUTO_PAD:
        op.refuse(f"pad_type '{pad_type}'")
    pads = []
    for size, length, stride, dilation in zip(op.shape("x")[2:], kernel, strides, dilations, strict=True):
        total = same_padding(size, (length - 1) * dilation + 1, stride)
        if total is None:
            return None
        pads.append(split_same(total, pad_type == "same_lower"))
    return pads
