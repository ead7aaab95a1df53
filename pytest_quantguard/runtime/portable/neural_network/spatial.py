"""Sizes and paddings of layers that slide a window over height and width."""

from dataclasses import dataclass
from typing import Any

from pytest_quantguard.runtime.portable.neural_network.registry import Layer

Pair = tuple[int, int]
"""(start, end) of one axis, or (height, width)."""


# A damaged file must not exhaust the memory while it is translated: longer axes of an image are refused.
_LONGEST = 2**20


@dataclass(frozen=True)
class Padding:
    """Amounts before and after height and width; written as ONNX wants them by `onnx`."""

    height: Pair
    width: Pair

    @property
    def onnx(self) -> list[int]:
        """(top, left, bottom, right)."""
        return [self.height[0], self.width[0], self.height[1], self.width[1]]

    def __bool__(self) -> bool:
        return any(self.onnx)


def checked_length(layer: Layer, length: int) -> int:
    """The length of an axis that a layer is to give."""
    if not 0 <= length <= _LONGEST:
        raise layer.unsupported(f"a height or width of {length}")
    return length


def border_amounts(layer: Layer, borders: Any) -> Padding:
    """A `BorderAmounts` message; nothing where it is not set."""
    amounts = [(int(edge.startEdgeSize), int(edge.endEdgeSize)) for edge in borders.borderAmounts]
    if not amounts:
        return Padding((0, 0), (0, 0))
    if len(amounts) != 2:
        raise layer.unsupported(f"{len(amounts)} border amounts in place of (height, width)")
    return Padding(*amounts)


def split_padding(total: int, *, start_heavy: bool = False) -> Pair:
    """Divide a padding into start and end; an odd pixel goes to the end, or to the start if `start_heavy`."""
    small, large = total // 2, total - total // 2
    return (large, small) if start_heavy else (small, large)


def same_padding(size: Pair, kernel: Pair, stride: Pair, *, start_heavy: bool) -> Padding:
    """The padding that gives ceil(size / stride) outputs (specification: `SamePadding`)."""
    pairs = []
    for length, window, step in zip(size, kernel, stride, strict=True):
        outputs = -(-length // step)
        total = max(0, (outputs - 1) * step + window - length)
        pairs.append(split_padding(total, start_heavy=start_heavy))
    return Padding(*pairs)


def start_heavy(same: Any) -> bool:
    """Whether a `SamePadding` message puts the odd pixel at the top left."""
    return bool(same.asymmetryMode == same.TOP_LEFT_HEAVY)
