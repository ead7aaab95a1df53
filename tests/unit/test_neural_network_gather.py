import numpy as np
import pytest
from network_runner import close, counting, numbers, run

X = numbers(4, 3)


def test_gather_takes_rows_by_index():
    indices = np.float32([[2, 0], [-1, 1]])
    y = run(lambda b: b.add_gather("g", ["x", "i"], "y", axis=0), {"x": X, "i": indices}, exact=True)
    close(y, X[indices.astype(int)])


def test_gather_by_multi_index():
    indices = np.float32([[2, 0], [3, 2]])
    y = run(lambda b: b.add_gather_nd("g", ["x", "i"], "y"), {"x": X, "i": indices}, exact=True)
    close(y, X[[2, 3], [0, 2]])


def test_gather_along_an_axis():
    indices = np.float32([[2, 0, -1], [3, 1, 0]])
    y = run(lambda b: b.add_gather_along_axis("g", ["x", "i"], "y", axis=0), {"x": X, "i": indices}, exact=True)
    close(y, np.take_along_axis(X, indices.astype(int), 0))


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("UPDATE", lambda old, new: new),
        ("ADD", np.add),
        ("SUB", np.subtract),
        ("MUL", np.multiply),
        ("DIV", np.divide),
        ("MAX", np.maximum),
        ("MIN", np.minimum),
    ],
)
def test_scatter_modes(mode, expected):
    updates = numbers(2, 3, seed=1) + 2
    y = run(
        lambda b: b.add_scatter("s", ["x", "i", "u"], "y", axis=0, mode=mode),
        {"x": X, "i": np.float32([3, 1]), "u": updates},
        exact=True,
    )
    wanted = X.copy()
    wanted[[3, 1]] = expected(X[[3, 1]], updates)
    close(y, wanted)


def test_scatter_along_the_last_axis():
    updates = numbers(4, 2, seed=1)
    y = run(
        lambda b: b.add_scatter("s", ["x", "i", "u"], "y", axis=-1, mode="UPDATE"),
        {"x": X, "i": np.float32([2, 0]), "u": updates},
        exact=True,
    )
    wanted = X.copy()
    wanted[:, [2, 0]] = updates
    close(y, wanted)


def test_scatter_by_multi_index():
    y = run(
        lambda b: b.add_scatter_nd("s", ["x", "i", "u"], "y", mode="ADD"),
        {"x": X, "i": np.float32([[0, 1], [3, 2]]), "u": np.float32([10, 20])},
        exact=True,
    )
    wanted = X.copy()
    wanted[0, 1] += 10
    wanted[3, 2] += 20
    close(y, wanted)


def test_scatter_elements_along_an_axis():
    indices, updates = np.float32([[2, 0, 1]]), np.float32([[10, 20, 30]])
    y = run(
        lambda b: b.add_scatter_along_axis("s", ["x", "i", "u"], "y", axis=0, mode="UPDATE"),
        {"x": X, "i": indices, "u": updates},
        exact=True,
    )
    wanted = X.copy()
    np.put_along_axis(wanted, indices.astype(int), updates, 0)
    close(y, wanted)


def test_one_hot_leaves_out_indices_outside_the_vector():
    y = run(
        lambda b: b.add_one_hot("o", ["x"], "y", one_hot_vector_size=4, on_value=5, off_value=-1),
        {"x": np.float32([2, 0, -1, 4])},
        exact=True,
    )
    close(y, [[-1, -1, 5, -1], [5, -1, -1, -1], [-1] * 4, [-1] * 4])


def test_where_non_zero_gives_multi_indices():
    y = run(lambda b: b.add_where_nonzero("w", "x", "y"), {"x": np.float32([[1, 0], [0, 2]])}, exact=True)
    close(y, [[0, 0], [1, 1]])


def test_a_range_may_depend_on_an_input():
    y = run(lambda b: b.add_range_dynamic("r", ["n"], "y", start=1, step=2), {"n": np.float32([6])}, exact=True)
    close(y, [1, 3, 5])


def test_filling_a_shape_that_is_an_input():
    y = run(lambda b: b.add_fill_dynamic("f", "s", "y", 2.5), {"s": np.float32([2, 3])}, exact=True)
    close(y, np.full((2, 3), 2.5))


def test_tiling_by_an_input():
    y = run(lambda b: b.add_tile("t", ["x", "n"], "y"), {"x": counting(2, 2), "n": np.float32([3])}, exact=True)
    close(y, np.tile(counting(2, 2), 3))


def test_a_single_element_by_a_multi_index_has_one_dimension():
    y = run(
        lambda b: b.add_gather_nd("g", ["x", "i"], "y"),
        {"x": counting(2, 3), "i": np.float32([1, 2])},
        exact=True,
    )
    close(y, [5])
