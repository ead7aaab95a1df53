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

from pytest_quantguard.schemes.kmeans_seeds import Floats, first_centers

_TOLERANCE, _LARGEST_ROUNDS = 1e-2, 300
_BLOCK = 4096
# Up to so many centers, every distance is computed, which is faster than sorting the values.
_FEW_CENTERS, _FEW_LIMITS = 16, 32


def kmeans_table(weights: Floats, bits: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Cluster weights around 2**bits values, as coremltools does.

    Args:
        weights: finite float32 or float64 values of any shape, at least one; the type changes the clusters.
        bits: 1 to 8.

    Returns:
        table: shape (2**bits,); where there are fewer weights, the rest is zero.
        indices: shape (weights.size,).
    """
    column = np.ascontiguousarray(weights).reshape(-1, 1)
    count = min(len(column), 2**bits)
    tolerance = np.mean(np.var(column, axis=0)) * _TOLERANCE
    mean = column.mean(axis=0)
    values: Floats = (column - mean)[:, 0]
    order = np.argsort(values) if count > _FEW_CENTERS else None
    centers = first_centers(values, order, count)
    centers, labels = _lloyd(values, order, centers, tolerance)
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


def _lloyd(
    values: Floats, order: NDArray[np.intp] | None, centers: Floats, tolerance: Any
) -> tuple[Floats, NDArray[np.uint8]]:
    """Move the centers to the means of their clusters until they rest (sklearn _kmeans_single_lloyd)."""
    in_order = values if order is None else values[order]
    before = None
    for _ in range(_LARGEST_ROUNDS):
        nearest = nearest_centers(in_order, centers)
        moved = _means(values, _restored(nearest, order), centers)
        shift = np.sqrt((moved - centers) ** 2)
        centers = moved
        if before is not None and np.array_equal(nearest, before):
            return centers, _restored(nearest, order)
        if (shift**2).sum() <= tolerance:
            break
        before = nearest
    return centers, _restored(nearest_centers(in_order, centers), order)


def _restored(labels: NDArray[np.uint8], order: NDArray[np.intp] | None) -> NDArray[np.uint8]:
    """Labels of sorted values, in the order the values had before."""
    if order is None:
        return labels
    restored = np.empty_like(labels)
    restored[order] = labels
    return restored


def nearest_centers(values: Floats, centers: Floats) -> NDArray[np.uint8]:
    """The number of the nearest of at most 256 centers for each value; faster for sorted values.

    Nearest is the center with the least `center**2 - 2 * value * center`, computed in the values' own type; of
    equal ones the first (sklearn.cluster._k_means_lloyd._update_chunk_dense).
    """
    limits, numbers, is_doubtful = _regions(centers, float(np.max(np.abs(values))))
    regions: NDArray[Any]
    if len(limits) <= _FEW_LIMITS:
        regions = np.zeros(len(values), np.uint8)
        for limit in limits:
            regions += values > limit
    else:
        regions = np.searchsorted(limits, values)
    labels = numbers[regions]
    doubtful = np.flatnonzero(is_doubtful[regions])
    norms = centers * centers
    for start in range(0, len(doubtful), _BLOCK):
        block = doubtful[start : start + _BLOCK]
        distances = values[block, None] * centers
        distances *= -2
        distances += norms
        labels[block] = np.argmin(distances, axis=1)
    return labels


def _regions(centers: Floats, largest: float) -> tuple[Floats, NDArray[np.uint8], NDArray[np.bool_]]:
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


def _means(values: Floats, labels: NDArray[np.uint8], centers: Floats) -> Floats:
    """The mean of each cluster, summed up in the weights' order.

    Sources: sklearn.cluster._k_means_lloyd.lloyd_iter_chunked_dense and ._k_means_common._average_centers.
    """
    sums = np.zeros_like(centers)
    np.add.at(sums, labels.astype(np.intp), values)
    # scikit-learn counts by adding ones in the weights' type, which ends where one more is no longer seen.
    most = 2 ** (np.finfo(values.dtype).nmant + 1)
    counts = np.minimum(np.bincount(labels, minlength=len(centers)), most)
    if not counts.all():
        _fill_empty(values, labels, centers, sums, counts)
    largest = int(np.argmax(counts))
    means: Floats = sums * (1 / np.maximum(counts, 1)).astype(values.dtype)
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
