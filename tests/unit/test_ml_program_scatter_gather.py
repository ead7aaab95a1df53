"""Reading and writing at computed places: modes, negative indices and indices outside."""

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from pytest_quantguard.quiet import import_coremltools

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

DATA = np.float32([[1, 2, 3], [4, 5, 6]])
UPDATES = np.float32([[5, 6, 7], [8, 9, 10]])


def in_order(data, updates, rows, combine):
    """Updates of rows, one after the other; those of rows outside are dropped."""
    result = data.copy()
    for row, update in zip(rows, updates, strict=True):
        if 0 <= row < len(data):
            result[row] = combine(result[row], update)
    return result


MODES = {
    "update": lambda old, new: new,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [[1, 0], [1, 1], [-1, 0], [10, 0]])
def test_rows_are_written_one_after_the_other_and_nothing_outside(mode, rows, tmp_path):
    def build(data, rows, updates):
        column = mb.expand_dims(x=rows, axes=[1])
        return [
            mb.scatter(data=data, indices=rows, updates=updates, mode=mode, axis=0, validate_indices=False),
            mb.scatter_nd(data=data, indices=column, updates=updates, mode=mode, validate_indices=False),
            mb.scatter_along_axis(
                data=data,
                indices=mb.tile(x=column, reps=[1, 3]),
                updates=updates,
                mode=mode,
                axis=0,
                validate_indices=False,
            ),
        ]

    inputs = {"data": DATA, "rows": np.int32(rows), "updates": UPDATES}
    expected = in_order(DATA, UPDATES, rows, MODES[mode])
    for found in run_program(build, inputs, tmp_path):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_whole_numbers_are_divided_towards_zero(tmp_path):
    def build(data, updates):
        return mb.scatter(data=data, indices=np.int32([0, 0]), updates=updates, mode="div", axis=0)

    inputs = {"data": np.int32([[100, -7], [9, 9]]), "updates": np.int32([[3, 2], [5, 1]])}
    assert run_program(build, inputs, tmp_path).tolist() == [[6, -3], [9, 9]]


def test_places_in_two_dimensions_are_written_and_those_outside_dropped(tmp_path):
    def build(data, places, updates):
        return mb.scatter_nd(data=data, indices=places, updates=updates, mode="update", validate_indices=False)

    places = np.int32([[1, 0], [0, 3], [-1, 0], [0, 2], [2, 2]])
    inputs = {"data": DATA, "places": places, "updates": np.float32([10, 20, 30, 40, 50])}
    assert run_program(build, inputs, tmp_path).tolist() == [[1, 2, 40], [10, 5, 6]]


def test_negative_rows_count_from_the_end_up_to_ios_16(tmp_path):
    def build(data, rows, updates):
        return [
            mb.scatter(data=data, indices=rows, updates=updates, mode="update", axis=0),
            mb.gather(x=data, indices=rows, axis=0),
        ]

    inputs = {"data": DATA, "rows": np.int32([-1, 0]), "updates": UPDATES}
    written, read = run_program(build, inputs, tmp_path, "iOS16")
    np.testing.assert_array_equal(written, UPDATES[::-1])
    np.testing.assert_array_equal(read, DATA[[-1, 0]])


def test_reading_outside_takes_the_nearest_place_and_negative_ones_count_from_the_end(tmp_path):
    def build(x, i):
        places = mb.expand_dims(x=i, axes=[1])
        return [
            mb.gather(x=x, indices=i, axis=1, validate_indices=False),
            mb.gather_along_axis(x=x, indices=mb.stack(values=(i, i), axis=0), axis=1, validate_indices=False),
            mb.gather_nd(x=mb.transpose(x=x, perm=[1, 0]), indices=places, validate_indices=False),
        ]

    found = run_program(build, {"x": DATA, "i": np.int32([-1, 9, -9, 1])}, tmp_path)
    expected = DATA[:, [2, 2, 0, 1]]
    for result, wanted in zip(found, [expected, expected, expected.T], strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("row", [-1, 2])
@pytest.mark.parametrize(
    "build",
    [
        lambda x, i: mb.gather(x=x, indices=i, axis=0, validate_indices=True),
        lambda x, i: mb.gather_along_axis(
            x=x, indices=mb.stack(values=(i, i, i), axis=1), axis=0, validate_indices=True
        ),
        lambda x, i: mb.gather_nd(x=x, indices=mb.expand_dims(x=i, axes=[0]), validate_indices=True),
        lambda x, i: mb.scatter(data=x, indices=i, updates=DATA[:1], axis=0, validate_indices=True),
        lambda x, i: mb.scatter_along_axis(
            data=x, indices=mb.stack(values=(i, i, i), axis=1), updates=DATA[:1], axis=0, validate_indices=True
        ),
        lambda x, i: mb.scatter_nd(
            data=x, indices=mb.expand_dims(x=i, axes=[0]), updates=DATA[:1], validate_indices=True
        ),
    ],
)
def test_an_index_outside_fails_the_run_where_indices_are_validated(build, row, tmp_path):
    inputs = {"x": DATA, "i": np.int32([row])}
    spec = make_spec(build, inputs, tmp_path)
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        run_spec(spec, inputs, tmp_path)
    assert run_spec(spec, {**inputs, "i": np.int32([1])}, tmp_path)[0].size


def test_places_in_a_flexible_shape_are_checked_at_run_time(tmp_path):
    def build(x, i):
        return mb.gather(x=x, indices=i, axis=0, validate_indices=False)

    spec = make_spec(build, {"x": ((None, 2), "float32"), "i": ((None,), "int32")}, tmp_path)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    found = run_spec(spec, {"x": x, "i": np.int32([3, 7])}, tmp_path)[0]
    np.testing.assert_array_equal(found, x[[3, 3]])
