"""K-means is that of coremltools, bit for bit; optimal k-means has the least error there is."""

import tracemalloc

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes import kmeans, kmeans_blocks, optimal_kmeans
from pytest_quantguard.schemes.kmeans import kmeans_table, nearest_centers, one_blas_thread
from pytest_quantguard.schemes.kmeans_blocks import _adds_by_chunks, add_rows, make_blocks, sort_blocks
from pytest_quantguard.schemes.kmeans_seeds import _first_position, first_centers
from pytest_quantguard.schemes.optimal_kmeans import optimal_table

import_coremltools()


def coremltools_table(weights, bits):
    from coremltools.models.neural_network.quantization_utils import _get_kmeans_lookup_table_and_weight
    from threadpoolctl import threadpool_limits

    with quiet(), threadpool_limits(1):
        table, indices = _get_kmeans_lookup_table_and_weight(bits, weights)
    return table.ravel(), indices


def assert_equal(weights, bits):
    expected_table, expected_indices = coremltools_table(weights, bits)
    with one_blas_thread(True):
        table, indices = kmeans_table(weights, bits)
    assert np.array_equal(table, expected_table)
    assert np.array_equal(indices, expected_indices)


def sample(name, count, dtype=np.float32):
    rng = np.random.default_rng(count)
    normal = rng.normal(size=count)
    return {
        "normal": normal * 0.02,
        "heavy tails": rng.laplace(size=count),
        "few values": rng.integers(-30, 30, count) / 7,
        "pruned": normal * (rng.random(count) < 0.3),
        "tiny": normal * 1e-7,
        "far from zero": normal + 100,
        "outliers": np.where(rng.random(count) < 1e-3, 500, 1) * normal,
        "constant": np.full(count, 0.25),
    }[name].astype(dtype)


# Where tables are float32, older versions round otherwise; ours do not depend on scikit-learn.
same_sums = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="bits are those of scikit-learn 1.9"
)
NAMES = ("normal", "heavy tails", "few values", "pruned", "tiny", "far from zero", "outliers", "constant")


@same_sums
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("count", "bits"), [(1, 8), (3, 1), (100, 5), (700, 8), (3000, 6), (5000, 4), (5000, 2)])
def test_clusters_are_those_of_coremltools(name, count, bits, dtype):
    assert_equal(sample(name, count, dtype), bits)


@same_sums
@pytest.mark.parametrize("name", NAMES)
def test_clusters_of_large_tensors_are_those_of_coremltools(name):
    assert_equal(sample(name, 40_000).reshape(100, 20, 20), 6)


@pytest.mark.parametrize(("name", "bits"), [("normal", 6), ("heavy tails", 3), ("pruned", 5)])
def test_clusters_of_weights_in_several_blocks_are_those_of_coremltools(name, bits):
    assert len(make_blocks(sample(name, 70_001, np.float64), 4)) > 1
    assert_equal(sample(name, 70_001, np.float64), bits)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 7), st.integers(1, 4), st.integers(1, 9000), st.integers(0, 2**32))
def test_blocks_of_rows_add_up_to_the_bits_of_one_product(rows, blocks, last, seed):
    size = 2 * 2048
    numbers = np.random.default_rng(seed).random((rows, blocks * size + last))
    with one_blas_thread(True):
        sums = None
        for start in range(0, numbers.shape[1], size):
            sums = add_rows(sums, numbers[:, start : start + size])
        whole = numbers @ np.ones((numbers.shape[1], 1))
    assert np.array_equal(sums, whole[:, 0]) or not _adds_by_chunks(np.dtype(np.float64), rows)


def test_another_matrix_product_is_noticed_and_then_there_is_one_block(monkeypatch):
    values = sample("normal", 70_001, np.float64)
    monkeypatch.setattr(kmeans_blocks, "_CHUNK", 2052)
    assert not _adds_by_chunks(values.dtype, 7)
    assert len(make_blocks(values, 7)) == 1
    assert_equal(values[:40_000], 5)


def test_k_means_needs_little_memory_beside_the_weights():
    weights = sample("normal", 400_000, np.float64)
    with one_blas_thread(True):
        kmeans_table(weights[:1000], 5)
        tracemalloc.start()
        kmeans_table(weights, 5, overwrite=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 40 * weights.size


def test_weights_are_overwritten_only_where_that_is_asked_for():
    weights = sample("normal", 5000)
    before = weights.copy()
    expected = kmeans_table(weights, 4)
    assert np.array_equal(weights, before)
    assert all(map(np.array_equal, kmeans_table(weights, 4, overwrite=True), expected))


def test_the_first_center_is_the_one_that_numpy_chooses():
    for seed in range(50):
        values = np.arange(1 + 37 * seed, dtype=np.float64)
        share = np.ones(len(values)) / len(values)
        expected = np.random.RandomState(seed).choice(len(values), p=share)
        drawn = np.random.RandomState(seed).random_sample()
        assert _first_position(make_blocks(values, 2), drawn) == expected


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.float32, st.integers(1, 60), elements=st.floats(-100, 100, width=32, allow_subnormal=False)),
    st.integers(1, 8),
)
def test_clusters_of_any_weights_are_those_of_coremltools(weights, bits):
    assert_equal(weights, bits)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_the_first_centers_do_not_depend_on_how_they_are_found(name, dtype):
    values = sample(name, 2000, dtype)
    blocks = make_blocks(values.copy(), 5)
    seen = first_centers(sort_blocks(make_blocks(values.copy(), 5)), 40)
    assert np.array_equal(seen, first_centers(blocks, 40))


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from([np.float32, np.float64]))
def test_the_nearest_center_is_the_one_rounding_gives(data, dtype):
    magnitude = data.draw(st.sampled_from([1e-6, 1, 1e4]))
    number = st.floats(-1, 1, width=32).map(lambda value: value * magnitude)
    centers = data.draw(st.lists(number, min_size=1, max_size=40))
    for _ in range(data.draw(st.integers(0, 5))):  # neighbours that rounding hardly tells apart
        centers.append(np.nextafter(dtype(data.draw(st.sampled_from(centers))), dtype(np.inf)))
    centers = np.array(centers, dtype)
    near = (centers[:, None] + centers) / 2
    values = np.concatenate([near.ravel(), centers, np.array(data.draw(st.lists(number, min_size=1)), dtype) * 3])
    values = values.astype(dtype)
    distances = centers * centers + -2 * (values[:, None] * centers)
    expected = np.argmin(distances, axis=1)
    assert np.array_equal(nearest_centers(values, centers), expected)
    assert np.array_equal(
        nearest_centers(np.sort(values), centers, is_sorted=True), expected[np.argsort(values, kind="stable")]
    )


def test_most_weights_are_not_compared_with_every_center(monkeypatch):
    values = np.sort(sample("normal", 20_000))
    centers = values[::100].copy()
    limits, _, is_doubtful = kmeans._regions(centers, float(np.abs(values).max()))
    assert is_doubtful[np.searchsorted(limits, values)].mean() < 0.05


def squared_error(weights, table, indices):
    return float(((weights.ravel().astype(np.float64) - table[indices]) ** 2).sum())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("count", "bits"), [(5, 2), (300, 8), (9000, 8), (20_000, 4), (9000, 1)])
def test_optimal_clusters_never_have_a_higher_error_than_those_of_coremltools(name, count, bits):
    weights = sample(name, count)
    error = squared_error(weights, *optimal_table(weights, bits))
    theirs = squared_error(weights, *coremltools_table(weights, bits))
    assert error <= theirs * (1 + 1e-9) + 1e-12 * float((weights.astype(np.float64) ** 2).sum())


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60), st.integers(1, 5))
def test_optimal_clusters_have_the_least_error(weights, bits):
    weights = np.array(weights, np.float32)
    table, indices = optimal_table(weights, bits)
    assert table.shape == (2**bits,)
    assert np.isclose(squared_error(weights, table, indices), least_error(weights, 2**bits), atol=1e-9)


def least_error(weights, clusters):
    """By trying every last cluster: the textbook's dynamic programming."""
    values = np.sort(weights.astype(np.float64))
    errors = np.array([[((run := values[a:b]) - run.mean()) @ (run - run.mean()) if b > a else 0
                        for b in range(len(values) + 1)] for a in range(len(values) + 1)])  # fmt: skip
    best = errors[0]
    for _ in range(min(clusters, len(values)) - 1):
        best = np.array([min(best[a] + errors[a, b] for a in range(b + 1)) for b in range(len(values) + 1)])
    return best[-1]


@pytest.mark.parametrize("name", ["normal", "heavy tails", "outliers", "far from zero"])
@pytest.mark.parametrize("clusters", [2, 16, 100])
def test_what_is_proved_to_be_best_is_the_best_of_a_search_without_limits(name, clusters):
    _, counts, sums = optimal_kmeans._group(sample(name, 9000).astype(np.float64))
    ends = optimal_kmeans.best_ends(counts, sums, clusters)
    problem = runs(counts, sums)
    everything, _ = problem.search(ends, clusters)
    assert np.isclose(gain(problem, ends), gain(problem, everything), rtol=1e-13)


def test_a_division_that_is_not_best_is_not_proved():
    _, counts, sums = optimal_kmeans._group(sample("outliers", 9000).astype(np.float64))
    problem = runs(counts, sums)
    poor = np.append(np.arange(50), len(counts))
    found, is_proved = problem.search(poor, 1)
    assert gain(problem, found) < gain(problem, optimal_kmeans.best_ends(counts, sums, 50)) * 0.999
    assert not is_proved


def runs(counts, sums):
    return optimal_kmeans._Runs(
        np.append(0.0, np.cumsum(counts)), np.append(0.0, np.cumsum(sums - sums.sum() / counts.sum() * counts))
    )


def gain(problem, ends):
    return float((np.diff(problem._sums[ends]) ** 2 / np.diff(problem._counts[ends])).sum())


def test_optimal_clusters_keep_weights_that_float16_cannot_tell_apart():
    weights = sample("normal", 20_000) * np.float32(1e-6)
    table, indices = optimal_table(weights, 8)
    assert np.abs(table[indices] - weights).max() < 0.05 * np.abs(weights).max()
