"""K-means of weights as coremltools clusters them: scikit-learn's clusters bit for bit, in less time.

coremltools calls `sklearn.cluster.KMeans(n_clusters, init="k-means++", tol=1e-2, n_init=1, random_state=0)` with
the weights as one column (quantization_utils._get_kmeans_lookup_table_and_weight). In one dimension the nearest
center of a weight is known by where it lies between the sorted centers; only where rounding could decide are the
distances computed, as scikit-learn computes them. Everything else is done as scikit-learn does it, in the weights'
own type and order, so that every sum has the same bits. Equal to scikit-learn 1.3 and later with one thread.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.schemes.kmeans_blocks import Block, Floats, make_blocks, sort_blocks
from pytest_quantguard.schemes.kmeans_seeds import first_centers, trials

_TOLERANCE, _LARGEST_ROUNDS = 1e-2, 300
_DISTANCES = 4096
# Up to so many centers, every distance is computed, which is faster than sorting the values. Up to so many values,
# finding the first centers that way costs less than finding those that a new center comes nearer to.
_FEW_CENTERS, _FEW_LIMITS, _FEW_VALUES = 16, 32, 30_000

_Regions = tuple[Floats, NDArray[np.uint8], NDArray[np.bool_]]


def kmeans_table(
    weights: Floats, bits: int, *, overwrite: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Cluster weights around 2**bits values, as coremltools does.

    Args:
        weights: finite float32 or float64 values of any shape, at least one; the type changes the clusters.
        bits: 1 to 8.
        overwrite: use the memory of the weights to work in.

    Returns:
        table: shape (2**bits,); where there are fewer weights, the rest is zero.
        indices: shape (weights.size,).
    """
    column = (np.ascontiguousarray(weights) if overwrite else np.array(weights, order="C")).reshape(-1, 1)
    count = min(len(column), 2**bits)
    tolerance = np.mean(np.var(column, axis=0)) * _TOLERANCE
    mean = column.mean(axis=0)
    column -= mean
    blocks = make_blocks(column[:, 0], trials(count))
    if count > _FEW_CENTERS and len(column) > _FEW_VALUES:
        blocks = sort_blocks(blocks)
    centers = first_centers(blocks, count)
    if count > _FEW_CENTERS and len(column) <= _FEW_VALUES:
        blocks = sort_blocks(blocks)
    centers, labels = _lloyd(blocks, centers, tolerance)
    table = np.zeros(2**bits)
    table[:count] = centers + mean
    return table, labels


@contextlib.contextmanager
def one_blas_thread(wanted: bool) -> Iterator[None]:
    """Compute numpy's matrix products in one thread, if wanted: sharing them out could change a sum's last bit.

    The limit belongs to the process, so it is set once around all calls of `kmeans_table`.
    """
    if not wanted:
        yield
        return
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    with threadpool_limits(1, user_api="blas"):
        yield


def _lloyd(blocks: list[Block], centers: Floats, tolerance: Any) -> tuple[Floats, NDArray[np.uint8]]:
    """Move the centers to the means of their clusters until they rest (sklearn _kmeans_single_lloyd)."""
    before = None
    for _ in range(_LARGEST_ROUNDS):
        labels = _labels(blocks, centers)
        moved = _means(blocks, labels, centers)
        shift = np.sqrt((moved - centers) ** 2)
        centers = moved
        if before is not None and np.array_equal(labels, before):
            return centers, _restored(blocks, labels)
        if (shift**2).sum() <= tolerance:
            break
        before = labels
    return centers, _restored(blocks, _labels(blocks, centers))


def _labels(blocks: list[Block], centers: Floats) -> NDArray[np.uint8]:
    """The number of the nearest center for each value, in the order of the blocks."""
    largest = max(float(np.abs(block.values).max()) for block in blocks)
    regions = _regions(centers, largest)
    labels = np.empty(blocks[-1].stop, np.uint8)
    for block in blocks:
        is_sorted = block.order is not None
        labels[block.start : block.stop] = _nearest(block.values, centers, regions, is_sorted=is_sorted)
    return labels


def _restored(blocks: list[Block], numbers: NDArray[Any]) -> NDArray[Any]:
    """One number per value, in the order the values had before they were sorted."""
    restored = np.empty_like(numbers)
    for block in blocks:
        block.restore(numbers[block.start : block.stop], restored[block.start : block.stop])
    return restored


def nearest_centers(values: Floats, centers: Floats, *, is_sorted: bool = False) -> NDArray[np.uint8]:
    """The number of the nearest of at most 256 centers for each value.

    Nearest is the center with the least `center**2 - 2 * value * center`, computed in the values' own type; of
    equal ones the first (sklearn.cluster._k_means_lloyd._update_chunk_dense).
    """
    return _nearest(values, centers, _regions(centers, float(np.max(np.abs(values)))), is_sorted=is_sorted)


def _nearest(values: Floats, centers: Floats, regions: _Regions, *, is_sorted: bool) -> NDArray[np.uint8]:
    limits, numbers, is_doubtful = regions
    found: NDArray[Any]
    if is_sorted:
        ends = np.searchsorted(values, limits, "right")
        lengths = np.diff(ends, prepend=0, append=len(values))
        labels = np.repeat(numbers, lengths)
        doubtful = np.flatnonzero(np.repeat(is_doubtful, lengths))
    else:
        if len(limits) <= _FEW_LIMITS:
            found = np.zeros(len(values), np.uint8)
            for limit in limits:
                found += values > limit
        else:
            found = np.searchsorted(limits, values)
        labels = numbers[found]
        doubtful = np.flatnonzero(is_doubtful[found])
    norms = centers * centers
    for start in range(0, len(doubtful), _DISTANCES):
        block = doubtful[start : start + _DISTANCES]
        distances = values[block, None] * centers
        distances *= -2
        distances += norms
        labels[block] = np.argmin(distances, axis=1)
    return labels


def _regions(centers: Floats, largest: float) -> _Regions:
    """Divide the line where one center is certainly the nearest from where rounding may decide.

    With u the unit roundoff and m the largest magnitude that takes part, a distance is computed within 6 u m**2.
    The true distances to two centers differ by twice their gap times the value's distance from their middle.

    Args:
        centers: in any order, and some of them may be equal.
        largest: the largest magnitude of the values.

    Returns:
        limits: sorted, between one region and the next.
        numbers: of each region, the center that is the nearest if no other number is found.
        is_doubtful: of each region, whether others may be nearest.
    """
    distinct, numbers = np.unique(centers, return_index=True)
    exact = distinct.astype(np.float64)
    magnitude = np.maximum(np.abs(exact[1:]), np.abs(exact[:-1]))
    magnitude[:1] = magnitude[-1:] = max(largest, float(np.max(np.abs(exact))))
    middles = (exact[1:] + exact[:-1]) / 2
    kind = np.finfo(centers.dtype)
    with np.errstate(over="ignore"):
        margin = (6 * float(kind.eps) * magnitude**2 + float(kind.tiny)) / np.diff(exact)
        margin[np.diff(exact) <= 8 * float(kind.eps) * magnitude] = np.inf  # too close to tell apart from afar
        starts, stops = (middles - margin).astype(centers.dtype), (middles + margin).astype(centers.dtype)
    limits: list[Any] = []
    found = [0]
    for start, stop, following in sorted(zip(starts, stops, range(1, len(distinct)), strict=True)):
        if limits and start <= limits[-1]:  # overlaps the doubtful region before it
            limits[-1] = max(limits[-1], stop)
            found[-1] = max(found[-1], following)
        else:
            limits += [start, stop]
            found += [following, following]
    is_doubtful = np.arange(len(found)) % 2 == 1
    return np.array(limits, centers.dtype), numbers[found].astype(np.uint8), is_doubtful


def _means(blocks: list[Block], labels: NDArray[np.uint8], centers: Floats) -> Floats:
    """The mean of each cluster, summed up in the weights' order.

    Sources: sklearn.cluster._k_means_lloyd.lloyd_iter_chunked_dense and ._k_means_common._average_centers.
    """
    sums = np.zeros_like(centers)
    counts = np.zeros(len(centers), np.intp)
    for block in blocks:
        found = labels[block.start : block.stop]
        np.add.at(sums, block.restore(found.astype(np.intp)), block.restore(block.values))
        counts += np.bincount(found, minlength=len(centers))
    # scikit-learn counts by adding ones in the weights' type, which ends where one more is no longer seen.
    counts = np.minimum(counts, 2 ** (np.finfo(centers.dtype).nmant + 1))
    if not counts.all():
        values = np.concatenate([block.restore(block.values) for block in blocks])
        _fill_empty(values, _restored(blocks, labels), centers, sums, counts)
    largest = int(np.argmax(counts))
    means: Floats = sums * (1 / np.maximum(counts, 1)).astype(centers.dtype)
    for empty in np.flatnonzero(counts == 0):
        # scikit-learn takes the largest cluster's center, which is still the sum if its turn has not come.
        means[empty] = means[largest] if largest < empty else sums[largest]
    return means


def _fill_empty(
    values: Floats, labels: NDArray[np.uint8], centers: Floats, sums: Floats, counts: NDArray[np.intp]
) -> None:
    """Give empty clusters the weights farthest from their centers (sklearn _relocate_empty_clusters_dense)."""
    empty = np.flatnonzero(counts == 0)
    distances = (values - centers[labels]) ** 2
    if not distances.any():
        return  # there are fewer distinct weights than clusters
    farthest = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1]
    for cluster, weight in zip(empty, farthest, strict=True):
        sums[labels[weight]] -= values[weight]
        sums[cluster] = values[weight]
        counts[cluster] = 1
        counts[labels[weight]] -= 1
