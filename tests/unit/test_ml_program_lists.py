"""Lists of ML programs."""

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

A, B = np.float32([1, 3]), np.float32([2, 4])


def test_a_list_keeps_what_is_written_and_grows_with_zeros(tmp_path):
    def build(a, b):
        first = mb.make_list(init_length=2, elem_shape=(2,))
        second = mb.list_write(ls=first, index=0, value=a)
        third = mb.list_write(ls=second, index=4, value=b)
        last = mb.list_scatter(ls=third, indices=[2, 1], value=np.float32([[-1, -2], [-4, -5]]))
        return (
            mb.list_read(ls=first, index=0),
            mb.list_read(ls=second, index=0),
            mb.list_gather(ls=last, indices=[4, 2, 3, 1, 0]),
            mb.list_length(ls=first, name="shorter"),
            mb.list_length(ls=last, name="longer"),
        )

    empty, written, gathered, shorter, longer = run_program(build, {"a": A, "b": B}, tmp_path)
    np.testing.assert_array_equal(empty, [0, 0])
    np.testing.assert_array_equal(written, A)
    np.testing.assert_array_equal(gathered, [B, [-1, -2], [0, 0], [-4, -5], A])
    assert (shorter, longer) == ([2], [5])
    assert longer.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.bool_, np.int32])
def test_a_list_holds_whole_numbers_and_truth_values(dtype, tmp_path):
    values = np.array([[1, 0], [0, 1]])

    def build(x):
        items = mb.make_list(init_length=0, elem_shape=(2,), dtype="bool" if dtype is np.bool_ else "int32")
        items = mb.list_scatter(
            ls=items, indices=[0, 2], value=mb.cast(x=x, dtype="bool") if dtype is np.bool_ else x
        )
        return mb.cast(x=mb.list_gather(ls=items, indices=[0, 1, 2]), dtype="int32")

    found = run_program(build, {"x": values.astype(np.int32)}, tmp_path)
    np.testing.assert_array_equal(found, [[1, 0], [0, 0], [0, 1]])


def test_elements_whose_size_is_a_name_get_it_from_the_first_one_written(tmp_path):
    def build(x):
        items = mb.make_list(init_length=1, elem_shape=("columns", np.int32(2)))
        items = mb.list_write(ls=items, index=1, value=x)
        return mb.list_gather(ls=items, indices=[0, 1])

    spec = make_spec(build, {"x": ((None, 2), np.float32)}, tmp_path)
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(run_spec(spec, {"x": x}, tmp_path)[0], [np.zeros_like(x), x])


@pytest.mark.parametrize("turns", [0, 1, 4])
def test_a_loop_appends_to_a_list(turns, tmp_path):
    def build(x, n):
        def body(i, items):
            return mb.add(x=i, y=1), mb.list_write(
                ls=items, index=i, value=mb.mul(x=x, y=mb.cast(x=i, dtype="fp32"))
            )

        _, items = mb.while_loop(
            _cond=lambda i, items: mb.less(x=i, y=n),
            _body=body,
            loop_vars=(0, mb.make_list(init_length=1, elem_shape=(2,))),
        )
        return mb.list_gather(ls=items, indices=mb.range_1d(start=0, end=mb.list_length(ls=items), step=1))

    found = run_program(build, {"x": A, "n": np.int32([turns])}, tmp_path)
    np.testing.assert_array_equal(found, [A * i for i in range(max(turns, 1))])


def test_a_branch_may_give_a_list(tmp_path):
    def build(x):
        items = mb.make_list(init_length=1, elem_shape=(2,))
        chosen = mb.cond(
            pred=mb.squeeze(x=mb.greater(x=mb.reduce_sum(x=x, keep_dims=True), y=0.0)),
            _true_fn=lambda: mb.list_write(ls=items, index=0, value=x),
            _false_fn=lambda: items,
        )
        return mb.list_read(ls=chosen, index=0)

    for x in (A, -A):
        np.testing.assert_array_equal(run_program(build, {"x": x}, tmp_path), np.maximum(x, 0))


def test_a_write_very_far_behind_the_end_fails_before_it_takes_the_memory(tmp_path):
    def build(x):
        items = mb.make_list(init_length=1, elem_shape=(2,))
        return mb.list_length(ls=mb.list_write(ls=items, index=mb.cast(x=x, dtype="int32"), value=A))

    assert run_program(build, {"x": np.float32([9])}, tmp_path) == [10]
    with pytest.raises(Exception, match="invalid indice found, indice = 268435456"):
        run_program(build, {"x": np.float32([2**28])}, tmp_path)


def test_a_list_that_would_take_all_memory_is_refused(tmp_path):
    def build(x):
        return mb.list_write(ls=mb.make_list(init_length=2**26, elem_shape=(2,)), index=0, value=x)

    with pytest.raises(UnsupportedModelError, match="a list of 67108864 elements is not supported"):
        run_program(build, {"x": A}, tmp_path)
