"""The first centers of k-means: greedy k-means++ as in sklearn.cluster._kmeans._kmeans_plusplus, bit for bit."""

from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
"""Weights, centers or distances: all float32 or all float64."""

# Below so many weights, looking at all of them costs less than finding those that a new center comes nearer to.
_FEW = 30_000


def first_centers(values: Floats, order: NDArray[np.intp] | None, count: int, *, few: int = _FEW) -> Floats:
    """Choose the first centers: each next one is the best of some values that are drawn at random.

    The probability of a value is its squared distance to the nearest center so far.

    Args:
        values: float32 or float64; the type changes the choice.
        order: sorts the values; without it, every distance is computed in every round.
        count: how many centers.
        few: up to so many values, every distance is computed in every round.
    """
    random = np.random.RandomState(0)
    trials = 2 + int(np.log(count))
    ones = np.ones_like(values)
    first = values[random.choice(len(values), p=ones / ones.sum())]
    distances: _EveryDistance | _ChangedDistances
    if order is None or len(values) <= few:
        distances = _EveryDistance(values, first)
    else:
        distances = _ChangedDistances(values, order, first, trials)
    potential = distances.nearest[None] @ ones
    centers = [first]
    for _ in range(1, count):
        drawn = random.uniform(size=trials) * potential
        candidates = values[_positions(np.cumsum(distances.nearest), drawn)]
        potentials = distances.with_each(candidates) @ ones[:, None]
        best = int(np.argmin(potentials))
        potential = potentials[best]
        distances.keep(best)
        centers.append(candidates[best])
    return np.array(centers, values.dtype)


def _positions(sums: Floats, drawn: NDArray[np.float64]) -> NDArray[np.intp]:
    """Where running sums reach what is drawn; found without a copy of float32 sums in double precision."""
    limits = drawn.astype(sums.dtype)
    limits = np.where(limits < drawn, np.nextafter(limits, sums.dtype.type(np.inf)), limits)
    return np.minimum(np.searchsorted(sums, limits), len(sums) - 1)


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


class _EveryDistance:
    """Squared distances to the nearest center, computed for every value in every round."""

    def __init__(self, values: Floats, first: Any) -> None:
        self._values = values
        self.nearest = _squared_distances(first, values)

    def with_each(self, candidates: Floats) -> Floats:
        """The distances if one of the candidates became a center: shape (candidates, values)."""
        self._rows = np.minimum(self.nearest, _squared_distances(candidates[:, None], self._values))
        return self._rows

    def keep(self, best: int) -> None:
        """Make the candidate of this number a center."""
        self.nearest = self._rows[best]


class _ChangedDistances:
    """The same, changed only where a center may have come nearer: a run of the sorted values.

    A row per candidate is kept in the values' order, because the matrix product adds up in that order.
    """

    def __init__(self, values: Floats, order: NDArray[np.intp], first: Any, trials: int) -> None:
        self._order = order
        self._values = values[order]
        self._nearest = _squared_distances(first, self._values)
        self._rows = np.empty((trials, len(values)), values.dtype)
        self._rows[:, order] = self._nearest
        self._centers = [float(first)]
        self._changes: list[tuple[slice, Floats]] = []
        # At least the bound of the rounding errors of two squared distances, 22 u m**2 with u = 2**-53.
        self._error = 2.0**-48 * float(np.max(np.abs(self._values[[0, -1]]))) ** 2

    @property
    def nearest(self) -> Floats:
        """The distances to the nearest center, in the values' order."""
        row: Floats = self._rows[0]
        return row

    def with_each(self, candidates: Floats) -> Floats:
        """The distances if one of the candidates became a center: shape (candidates, values)."""
        self._candidates = candidates
        self._changes = []
        for row, candidate in zip(self._rows, candidates, strict=True):
            run = self._run(float(candidate))
            distances = np.minimum(self._nearest[run], _squared_distances(candidate, self._values[run]))
            row[self._order[run]] = distances
            self._changes.append((run, distances))
        return self._rows

    def keep(self, best: int) -> None:
        """Make the candidate of this number a center."""
        center = float(self._candidates[best])
        self._centers.insert(bisect_left(self._centers, center), center)
        kept, distances = self._changes[best]
        where = self._order[kept]
        for row, (run, _) in zip(self._rows, self._changes, strict=True):
            row[self._order[run]] = self._nearest[run]
            row[where] = distances
        self._nearest[kept] = distances

    def _run(self, candidate: float) -> slice:
        """The sorted values that may be nearer to the candidate than to any center.

        The true squared distances to two centers differ by twice their gap times the value's distance from their
        middle; less than the rounding error may go either way.
        """
        place = bisect_left(self._centers, candidate)
        start, stop = 0, len(self._values)
        if place < len(self._centers):
            above = self._centers[place]
            if above == candidate:
                return slice(0, 0)
            stop = self._position((candidate + above) / 2 + self._error / (above - candidate), "right")
        if place > 0:
            below = self._centers[place - 1]
            start = self._position((candidate + below) / 2 - self._error / (candidate - below), "left")
        return slice(start, max(start, stop))

    def _position(self, value: float, side: Any) -> int:
        """Where a value belongs among the sorted ones, rounded outward to their type."""
        limit = self._values.dtype.type(value)
        outward = np.nextafter(limit, self._values.dtype.type(np.inf if side == "right" else -np.inf))
        return int(np.searchsorted(self._values, outward, side))
