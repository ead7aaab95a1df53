"""The first centers of k-means: greedy k-means++ as in sklearn.cluster._kmeans._kmeans_plusplus, bit for bit."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.schemes.kmeans_blocks import Block, Floats, add_rows


def trials(count: int) -> int:
    """How many values are tried for each of so many centers."""
    return 2 + int(np.log(count))


def first_centers(blocks: list[Block], count: int) -> Floats:
    """Choose the first centers: each next one is the best of some values that are drawn at random.

    The probability of a value is its squared distance to the nearest center so far.

    Args:
        blocks: float32 or float64 values; the type changes the choice. Of sorted blocks, only those distances are
            computed that a center may change.
        count: how many centers.
    """
    random = np.random.RandomState(0)
    dtype = blocks[0].values.dtype
    centers = [_value_at(blocks, _first_position(blocks, random.random_sample()))]
    distances = _Distances(blocks, centers[0], trials(count))
    potential = distances.sum()
    for _ in range(1, count):
        drawn = random.uniform(size=trials(count)) * potential
        candidates = np.array([_value_at(blocks, position) for position in distances.positions(drawn)])
        potentials = distances.sums_with_each(candidates)
        best = int(np.argmin(potentials))
        potential = potentials[best]
        distances.add_center(candidates[best])
        centers.append(candidates[best])
    return np.array(centers, dtype)


def _first_position(blocks: list[Block], drawn: float) -> int:
    """What `RandomState.choice` chooses of equally probable values, without arrays of the size of the weights.

    Args:
        blocks: the values.
        drawn: what `RandomState.random_sample` has drawn.
    """
    dtype = blocks[0].values.dtype.type
    share = float(dtype(1) / dtype(blocks[-1].stop))
    for sums in _running_sums(np.full(len(block.values), share) for block in blocks):
        last = sums[-1]
    position = 0
    for sums in _running_sums(np.full(len(block.values), share) for block in blocks):
        sums /= last
        position += int(np.searchsorted(sums, drawn, "right"))
    return position


def _running_sums(parts: Iterable[Floats]) -> Iterator[Floats]:
    """The running sums of an array that comes in parts, which are overwritten."""
    before = None
    for part in parts:
        if before is not None:
            part[0] += before
        np.cumsum(part, out=part)
        before = part[-1]
        yield part


def _block_of(blocks: list[Block], position: int) -> int:
    return bisect_left(blocks, position, key=lambda block: block.stop - 1)


def _value_at(blocks: list[Block], position: int) -> np.floating:
    block = blocks[_block_of(blocks, position)]
    place = position - block.start
    if block.order is not None:
        place = int(np.argmax(block.order == place))
    value: np.floating = block.values[place]
    return value


def _squared_distances(center: Any, values: Floats) -> Floats:
    """Squared distances in the values' type, in the steps of sklearn.metrics.pairwise._euclidean_distances."""
    exact = values.astype(np.float64)
    center = np.asarray(center, np.float64)
    distances = exact * center
    distances *= -2
    distances += center * center
    exact *= exact
    distances += exact
    result: Floats = distances.astype(values.dtype, copy=False)
    return np.maximum(result, 0, out=result)


class _Distances:
    """The squared distance of each value to the nearest center."""

    def __init__(self, blocks: list[Block], first: np.floating, rows: int) -> None:
        self._blocks = blocks
        self._nearest = np.empty(blocks[-1].stop, blocks[0].values.dtype)  # in the order the values had
        self._centers = [float(first)]
        for block in blocks:
            block.restore(_squared_distances(first, block.values), self._nearest[block.start : block.stop])
        size = max(len(block.values) for block in blocks)
        self._ones, self._rows = (
            np.ones((size, 1), self._nearest.dtype),
            np.empty((rows, size), self._nearest.dtype),
        )
        largest = max(float(np.abs(block.values).max()) for block in blocks)
        # At least the bound of the rounding errors of two squared distances, 22 u m**2 with u = 2**-53.
        self._error = 2.0**-48 * largest**2

    def sum(self) -> Floats:
        """Their sum, as a matrix product: shape (1,)."""
        return self._nearest[None] @ np.ones_like(self._nearest)

    def positions(self, drawn: NDArray[np.float64]) -> list[int]:
        """Where running sums of the distances, in the values' order, reach what is drawn."""
        dtype = self._nearest.dtype.type
        limits = drawn.astype(dtype)  # float32 sums are not copied in double precision
        limits = np.where(limits < drawn, np.nextafter(limits, dtype(np.inf)), limits)
        found = np.full(len(limits), len(self._nearest) - 1)
        is_open = np.ones(len(limits), np.bool_)
        parts = (self._nearest[block.start : block.stop].copy() for block in self._blocks)
        for block, sums in zip(self._blocks, _running_sums(parts), strict=True):
            is_here = is_open & (limits <= sums[-1])
            found[is_here] = block.start + np.searchsorted(sums, limits[is_here])
            is_open &= ~is_here
            if not is_open.any():
                break
        return [int(position) for position in found]

    def sums_with_each(self, candidates: Floats) -> Floats:
        """The sum of all distances if a candidate became a center, for each: shape (candidates,)."""
        limits = [self._reach(float(candidate)) for candidate in candidates]
        sums = None
        for block in self._blocks:
            nearest = self._nearest[block.start : block.stop]
            rows = self._rows[:, : len(nearest)]
            if block.order is None:
                np.minimum(nearest, _squared_distances(candidates[:, None], block.values), out=rows)
            else:
                rows[:] = nearest
                _put_nearer(self._rows.reshape(-1), self._rows.shape[1], block, candidates, limits)
            sums = add_rows(sums, rows) if len(self._blocks) > 1 else (rows @ self._ones)[:, 0]
        assert sums is not None
        return sums

    def add_center(self, center: np.floating) -> None:
        """Make a value a center."""
        limits = [self._reach(float(center))]
        for block in self._blocks:
            nearest = self._nearest[block.start : block.stop]
            if block.order is None:
                np.minimum(nearest, _squared_distances(center, block.values), out=nearest)
            else:
                _put_nearer(nearest, 0, block, np.array([center]), limits)
        self._centers.insert(bisect_left(self._centers, float(center)), float(center))

    def _reach(self, candidate: float) -> tuple[float, float]:
        """The least and the largest value that may be nearer to the candidate than to any center.

        The true squared distances to two centers differ by twice their gap times the value's distance from their
        middle; less than the rounding error may go either way.
        """
        low, high = -np.inf, np.inf
        place = bisect_left(self._centers, candidate)
        if place < len(self._centers):
            above = self._centers[place]
            if above == candidate:
                return np.inf, -np.inf
            high = (candidate + above) / 2 + self._error / (above - candidate)
        if place > 0:
            below = self._centers[place - 1]
            low = (candidate + below) / 2 - self._error / (candidate - below)
        dtype = self._nearest.dtype.type  # rounded outward
        return np.nextafter(dtype(low), dtype(-np.inf)), np.nextafter(dtype(high), dtype(np.inf))


def _put_nearer(
    distances: Floats, step: int, block: Block, candidates: Floats, limits: list[tuple[float, float]]
) -> None:
    """Change the distances of the values that are nearer to a candidate: a run of a sorted block.

    Args:
        distances: for each candidate, those of the block in the order the values had.
        step: from one candidate's distances to the next one's.
        block: a sorted block.
        candidates: shape (candidates,).
        limits: the least and the largest value to look at, for each candidate.
    """
    assert block.order is not None
    lows, highs = np.array(limits, distances.dtype).T
    starts = np.searchsorted(block.values, lows, "left")
    stops = np.maximum(np.searchsorted(block.values, highs, "right"), starts)
    runs = [slice(*run) for run in zip(starts, stops, strict=True)]
    where = np.concatenate([block.order[run] for run in runs]).astype(np.intp)
    where += np.repeat(np.arange(len(candidates)) * step, stops - starts)
    values = np.concatenate([block.values[run] for run in runs])
    found = _squared_distances(np.repeat(candidates, stops - starts), values)
    distances[where] = np.minimum(distances[where], found, out=found)
