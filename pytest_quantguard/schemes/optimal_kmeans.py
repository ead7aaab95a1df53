"""Exact one-dimensional k-means: the clusters of the least squared error, in any number of threads on any machine.

Weights are grouped by their float16 value, which is what a phone computes with; groups are kept together. Of
sorted groups, clusters are runs, so the best clusters are a longest path: dynamic programming, cluster by cluster.
Two things make it fast:

- The gain of a run has the Monge property, so the best start of a run moves forward with its end (Wang and Song,
  Ckmeans.1d.dp, The R Journal 2011; Groenlund et al., Fast exact k-means in 1D, arXiv:1701.07204).
- Only ends near those of a good first guess are looked at. That this lost nothing is proved afterwards, by weak
  duality: where each cluster costs a fixed price, no path is better. If the proof fails, the search is widened.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

# Fewer weights than this are not grouped: all distinct values are told apart.
_FEW = 8192
_BLOCK = 2**16
# Clusters to look around the guess, which is the poorer the fewer groups there are.
_FIRST_REACH, _FIRST_REACH_FEW, _FEW_GROUPS = 3, 16, 20
_ROWS_PER_STEP = 8
_PROOF_ROUNDS = 6
# The guess is improved among so many places on either side of each end, in steps of so many clusters.
_PLACES, _STEPS, _IMPROVEMENTS = 4, (1.0, 0.5), 8
_ROUNDING = 1e-12


def optimal_table(weights: NDArray[Any], bits: int) -> tuple[Floats, NDArray[np.uint8]]:
    """Cluster weights around 2**bits values with the least sum of squared errors.

    Args:
        weights: finite values of any shape, at least one.
        bits: 1 to 8.

    Returns:
        table: shape (2**bits,), ascending; where there are fewer distinct weights, the rest is zero.
        indices: shape (weights.size,).
    """
    groups, counts, sums = _group(weights.ravel())
    clusters = min(len(counts), 2**bits)
    ends = np.arange(len(counts) + 1)
    if clusters < len(counts):
        ends = best_ends(counts, sums, clusters)
    table = np.zeros(2**bits)
    table[:clusters] = np.add.reduceat(sums, ends[:-1]) / np.add.reduceat(counts, ends[:-1])
    numbers = np.repeat(np.arange(clusters, dtype=np.uint8), np.diff(ends))
    return table, numbers[groups]


def _group(values: NDArray[Any]) -> tuple[NDArray[Any], Integers, Floats]:
    """The group of each value, and of each group, in ascending order, how many values it has and their sum."""
    if len(values) <= _FEW:
        distinct, groups, counts = np.unique(values.astype(np.float64), return_inverse=True, return_counts=True)
        return groups, counts, distinct * counts
    middle, exponent = _shift_and_scale(float(values.min()), float(values.max()))
    keys = np.empty(len(values), np.uint16)
    counts, sums = np.zeros(2**16, np.intp), np.zeros(2**16)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float64)
        found = keys[start : start + _BLOCK]
        found[:] = _float16_keys(np.ldexp(block - middle, exponent))
        counts += np.bincount(found, minlength=2**16)
        np.add.at(sums, found.astype(np.intp), block)
    used = np.flatnonzero(counts)
    numbers = np.zeros(2**16, np.uint16)
    numbers[used] = np.arange(len(used))
    return numbers[keys], counts[used], sums[used]


def _shift_and_scale(low: float, high: float) -> tuple[float, int]:
    """What to subtract, and the power of two to multiply by, so that float16 tells the weights apart.

    It does not, if all of them are tiny or far from zero.
    """
    middle = (low + high) / 2 if high - low < max(abs(low), abs(high)) / 4 else 0.0
    _, exponent = np.frexp(max(abs(low - middle), abs(high - middle)))
    return middle, max(-8 - int(exponent), 0)


def _float16_keys(values: Floats) -> NDArray[np.uint16]:
    """The float16 value of each number as an integer, in the order of the numbers."""
    with np.errstate(over="ignore"):
        bits = values.astype(np.float16).view(np.uint16)
    return np.where(bits >> 15, ~bits, bits | np.uint16(0x8000))


def best_ends(counts: Integers, sums: Floats, clusters: int) -> Integers:
    """Where to divide sorted groups into clusters: shape (clusters + 1,), from 0 to the number of groups."""
    centered = sums - sums.sum() / counts.sum() * counts
    problem = _Runs(np.append(0.0, np.cumsum(counts)), np.append(0.0, np.cumsum(centered)))
    ends = problem.improved(_guess(counts, sums, clusters))
    reach = _FIRST_REACH if len(counts) > _FEW_GROUPS * clusters else _FIRST_REACH_FEW
    while True:
        ends, is_proved = problem.search(ends, reach)
        if is_proved or reach >= clusters:
            return ends
        reach *= 2


def _guess(counts: Integers, sums: Floats, clusters: int) -> Integers:
    """Ends by the law of high resolution (density to the power of 1/3), improved by Lloyd's algorithm."""
    values = sums / counts
    share = np.cumsum(np.cbrt(counts * np.gradient(values) ** 2))
    ends: Integers = np.searchsorted(share, share[-1] * np.arange(clusters + 1) / clusters)
    order = np.arange(clusters + 1)
    for _ in range(300):
        # Every cluster has a group.
        ends[0], ends[-1] = 0, len(counts)
        ends = np.maximum.accumulate(ends - order) + order
        ends = np.minimum(ends, len(counts) - order[::-1])
        centers = np.add.reduceat(sums, ends[:-1]) / np.add.reduceat(counts, ends[:-1])
        moved = ends.copy()
        moved[1:-1] = np.searchsorted(values, (centers[1:] + centers[:-1]) / 2)
        if np.array_equal(moved, ends):
            break
        ends = moved
    return ends


class _Runs:
    """The gains of runs of groups: what one value per run takes off the sum of squares."""

    def __init__(self, counts: Floats, sums: Floats) -> None:
        self._counts, self._sums = counts, sums  # running, from zero
        self._last = len(counts) - 1

    def improved(self, ends: Integers) -> Integers:
        """Better ends, found among few places: cheap, and near enough to the best for a narrow search."""
        for step in _STEPS:
            for _ in range(_IMPROVEMENTS):
                before, ends = ends, self._best_of_places(ends, step)
                if np.array_equal(ends, before):
                    break
        return ends

    def _best_of_places(self, ends: Integers, step: float) -> Integers:
        """The best ends among those given and some places beside them, `step` clusters apart."""
        clusters = len(ends) - 1
        order = np.arange(clusters + 1)[:, None]
        beside = step * np.arange(-_PLACES, _PLACES + 1)
        places = np.interp(order + beside, order[:, 0], ends).astype(np.intp)
        places[:, _PLACES] = ends
        places = np.clip(places, order, self._last - order[::-1])
        places[0], places[-1] = 0, self._last
        starts, stops = places[:-1, :, None], places[1:, None, :]
        totals = self._sums[stops] - self._sums[starts]
        totals *= totals
        totals /= np.maximum(self._counts[stops] - self._counts[starts], 1)
        totals[stops <= starts] = -np.inf
        best = np.zeros(places.shape[1])
        for paths in totals:
            paths += best[:, None]
            best = paths.max(axis=0)
        choices = totals.argmax(axis=1)
        found, place = ends.copy(), 0
        for cluster in range(clusters - 1, 0, -1):
            place = choices[cluster, place]
            found[cluster] = places[cluster, place]
        return found

    def search(self, guess: Integers, reach: int) -> tuple[Integers, bool]:
        """The best ends that are at most `reach` clusters away from the guess, and whether there are no better."""
        clusters = len(guess) - 1
        lows, highs = self._limits(guess, reach)
        gains = [np.zeros(1)]
        starts = []
        for cluster in range(1, clusters + 1):
            gain, start = self._best(gains[-1], lows[cluster - 1], lows[cluster], highs[cluster])
            gains.append(gain)
            starts.append(start)
        ends = [self._last]
        for cluster in range(clusters, 0, -1):
            ends.append(int(starts[cluster - 1][ends[-1] - lows[cluster]]))
        return np.array(ends[::-1]), self._is_best(gains, lows, clusters)

    def _limits(self, guess: Integers, reach: int) -> tuple[list[int], list[int]]:
        """First and last end to look at, per cluster; the last cluster ends anywhere near the last group."""
        clusters = len(guess) - 1
        order = np.arange(clusters + 1)
        lows = np.maximum(guess[np.maximum(order - reach, 0)], order)
        highs = np.minimum(guess[np.minimum(order + reach, clusters)], self._last - 1)
        lows, highs = np.maximum.accumulate(lows - order) + order, np.maximum(highs, lows)
        lows[0] = highs[0] = 0
        highs[-1] = self._last
        return lows.tolist(), highs.tolist()

    def _best(self, gains: Floats, first: int, low: int, high: int) -> tuple[Floats, Integers]:
        """Of runs that end at low .. high: the best total gain, and the start that gives it.

        Args:
            gains: what the clusters before gain if they end at first, first + 1, ...
            first: the first start.
            low: the first end; above `first`.
            high: the last end.
        """
        rows = high - low + 1
        best, starts = np.empty(rows), np.empty(rows, np.intp)
        step = _ROWS_PER_STEP ** int(np.ceil(np.log(max(rows, 2)) / np.log(_ROWS_PER_STEP)))
        best[:1], starts[:1] = self._row_maxima(
            gains, first, np.array([low]), np.zeros(1, np.intp), np.array([len(gains) - 1])
        )
        while step > 1:
            # Rows between two known ones begin between the starts of those.
            below = np.arange(0, rows, step)
            lowest, highest = starts[below], np.append(starts[below[1:]], len(gains) - 1)
            step //= _ROWS_PER_STEP
            ends = (below[:, None] + step * np.arange(1, _ROWS_PER_STEP)).ravel()
            inside = ends < rows
            ends = ends[inside]
            if not len(ends):
                continue
            lowest = np.repeat(lowest, _ROWS_PER_STEP - 1)[inside]
            highest = np.repeat(highest, _ROWS_PER_STEP - 1)[inside]
            best[ends], starts[ends] = self._row_maxima(gains, first, low + ends, lowest, highest)
        return best, starts + first

    def _row_maxima(
        self, gains: Floats, first: int, ends: Integers, lowest: Integers, highest: Integers
    ) -> tuple[Floats, Integers]:
        """For each end, the best of the starts lowest .. highest, counted from `first`."""
        highest = np.minimum(highest, ends - first - 1)
        lengths = highest - lowest + 1
        begins = np.cumsum(lengths) - lengths
        starts = np.arange(lengths.sum()) - np.repeat(begins - lowest, lengths)
        places = starts + first
        totals = np.repeat(self._sums[ends], lengths) - self._sums[places]
        totals *= totals
        totals /= np.repeat(self._counts[ends], lengths) - self._counts[places]
        totals += gains[starts]
        best = np.maximum.reduceat(totals, begins)
        where = np.flatnonzero(totals == np.repeat(best, lengths))
        return best, starts[where[np.searchsorted(where, begins)]]

    def _is_best(self, gains: list[Floats], lows: list[int], clusters: int) -> bool:
        """Prove that no division into so many clusters gains more.

        With a price per cluster, let p(j) be what the best known path to j gains. If no run improves any p(j),
        then every path to the end gains at most p(end) plus its price: those that were found are the best.
        """
        price = self._price(gains, lows, clusters)
        if price is None:
            return False
        known = np.full(self._last + 1, -np.inf)
        for cluster, (gain, low) in enumerate(zip(gains, lows, strict=True)):
            part = known[low : low + len(gain)]
            np.maximum(part, gain - price * cluster, out=part)
        rounding = _ROUNDING * abs(float(gains[-1][-1]))
        goal = float(gains[-1][-1]) - price * clusters + rounding
        for _ in range(_PROOF_ROUNDS):
            better = self._best(known[:-1], 0, 1, self._last)[0] - price
            if known[-1] > goal or better[-1] > goal:
                return False
            if (better <= known[1:] + rounding).all():
                return True
            np.maximum(known[1:], better, out=known[1:])
        return False

    def _price(self, gains: list[Floats], lows: list[int], clusters: int) -> float | None:
        """A price per cluster at which neither one cluster more nor one fewer would pay."""
        whole = float(gains[-1][-1])
        one_more = (
            self._best(gains[-1][:-1], lows[-1], self._last, self._last)[0][0] if len(gains[-1]) > 1 else whole
        )
        fewer = gains[-2]
        one_fewer = -np.inf
        if lows[-2] + len(fewer) - 1 == self._last:
            one_fewer = float(fewer[-1])
        elif clusters > 1:
            before = gains[-3]
            one_fewer = float(self._best(before, lows[-3], self._last, self._last)[0][0])
        lower, upper = float(one_more) - whole, whole - one_fewer
        return None if lower > upper else (lower + upper) / 2
