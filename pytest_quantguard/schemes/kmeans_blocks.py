"""Weights block by block, so that work on them needs little memory and stays in the processor's cache."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
"""Weights, centers or distances: all float32 or all float64."""

# OpenBLAS adds up the products of a row with a vector by so many; what is left of the last four comes last.
_CHUNK, _REST = 2048, 4
_BLOCK = 16 * _CHUNK


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring weights, from `start` to before `stop`."""

    start: int
    stop: int
    values: Floats
    """Sorted if there is an `order`."""
    order: NDArray[np.unsignedinteger] | None = None
    """Where in the block each of the sorted values belongs."""

    def restore(self, numbers: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """One number per value, in the order the values had."""
        if self.order is None:
            if out is None:
                return numbers
            out[:] = numbers
            return out
        restored = np.empty_like(numbers) if out is None else out
        restored[self.order] = numbers
        return restored


def make_blocks(values: Floats, rows: int) -> list[Block]:
    """Divide values into blocks, which `add_rows` takes one by one.

    Args:
        values: float32 or float64 values; at least one.
        rows: how many rows will be added up.
    """
    count = len(values)
    size = _BLOCK if count > _BLOCK and _adds_by_chunks(values.dtype, rows) else count
    starts = range(0, count, size)
    return [Block(start, min(start + size, count), values[start : start + size]) for start in starts]


def sort_blocks(blocks: list[Block]) -> list[Block]:
    """The same blocks, sorted in place."""
    return [_sorted(block) for block in blocks]


def _sorted(block: Block) -> Block:
    order = np.argsort(block.values)
    block.values[:] = block.values[order]
    return Block(block.start, block.stop, block.values, order.astype(np.min_scalar_type(len(order) - 1)))


def add_rows(sums: Floats | None, rows: Floats) -> Floats:
    """Go on adding up each row, with the bits of one matrix product of whole rows and ones.

    Args:
        sums: of the blocks before, shape (rows,); None for the first block.
        rows: the next block of several, shape (rows, values).
    """
    count = rows.shape[1]
    whole, rest = count - count % _CHUNK, count - count % _REST
    ones = np.ones((_CHUNK, 1), rows.dtype)
    parts = [] if sums is None else [sums[None]]
    if whole:
        chunks = rows[:, :whole].reshape(len(rows), -1, _CHUNK).swapaxes(0, 1)
        parts.append((chunks @ ones)[:, :, 0])
    for start, stop in ((whole, rest), (rest, count)):
        if stop > start:
            parts.append((rows[:, start:stop] @ ones[: stop - start]).T)
    totals: Floats = np.add.accumulate(np.concatenate(parts))[-1]
    return totals


def _adds_by_chunks(dtype: np.dtype[Any], rows: int) -> bool:
    """Try whether the matrix product of this machine adds up as `add_rows` does, to the last bit."""
    random = np.random.default_rng(0)
    for count in (2 * _CHUNK, *range(3 * _CHUNK + 1001, 3 * _CHUNK + 1001 + _REST)):
        numbers = random.random((rows, count)).astype(dtype)
        sums = add_rows(add_rows(None, numbers[:, :_CHUNK]), numbers[:, _CHUNK:])
        if not np.array_equal(sums, (numbers @ np.ones((count, 1), dtype))[:, 0]):
            return False
    return True
