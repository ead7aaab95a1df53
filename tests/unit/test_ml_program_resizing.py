"""Resizing and resampling of images, which coremltools defines in words only."""

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec

from pytest_quantguard.quiet import import_coremltools

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(2, 4, 9, 8)).astype(np.float32)


def grid(old, new, mode):
    """The documented points, one by one."""
    points = []
    for index in range(new):
        if mode == "OFFSET_CORNERS":
            point = (index + 0.5) * max(1, old - 1) / new
        elif mode == "UNALIGN_CORNERS":
            point = (index + 0.5) * old / new - 0.5
        elif mode == "DEFAULT":
            point = index * old / new
        elif new == 1:
            point = (old - 1) / 2 if mode == "ALIGN_CORNERS" else 0
        else:
            point = index * (old - 1) / (new - 1)
        points.append(min(max(point, 0), old - 1))
    return points


def interpolation_matrix(old, new, mode):
    """The weights, shape (new, old), of linear interpolation at the grid points of a sampling mode."""
    distance = np.abs(np.array(grid(old, new, mode))[:, None] - np.arange(old))
    return np.maximum(0, 1 - distance)


# The documented grid points for two pixels (docstring of resize_bilinear): five of them per sampling mode.
GRIDS = {
    "UNALIGN_CORNERS": [0, 0.1, 0.5, 0.9, 1],
    "STRICT_ALIGN_CORNERS": [0, 0.25, 0.5, 0.75, 1],
    "ALIGN_CORNERS": [0, 0.25, 0.5, 0.75, 1],
    "DEFAULT": [0, 0.4, 0.8, 1, 1],
    "OFFSET_CORNERS": [0.1, 0.3, 0.5, 0.7, 0.9],
}


@pytest.mark.parametrize("mode", GRIDS)
def test_linear_resizing_reads_the_documented_grid(mode, tmp_path):
    x = np.float32([[[0, 1]]])

    def build(x):
        return mb.resize_bilinear(x=x, target_size_height=1, target_size_width=5, sampling_mode=mode)

    np.testing.assert_allclose(run_program(build, {"x": x}, tmp_path), [[GRIDS[mode]]], atol=1e-6)


@pytest.mark.parametrize("mode", GRIDS)
@pytest.mark.parametrize("sizes", [(5, 13), (20, 3), (9, 1)])
def test_linear_resizing_is_a_product_with_interpolation_matrices(mode, sizes, tmp_path):
    def build(x):
        return mb.resize_bilinear(x=x, target_size_height=sizes[0], target_size_width=sizes[1], sampling_mode=mode)

    rows, columns = interpolation_matrix(9, sizes[0], mode), interpolation_matrix(8, sizes[1], mode)
    expected = np.einsum("ih,nchw,jw->ncij", rows, IMAGE, columns)
    np.testing.assert_allclose(run_program(build, {"x": IMAGE}, tmp_path), expected, atol=1e-5)


@pytest.mark.parametrize(("mode", "middle"), [("ALIGN_CORNERS", 8.0), ("STRICT_ALIGN_CORNERS", 7.0)])
def test_one_aligned_column_is_the_middle_one_and_strictly_aligned_the_first_one(mode, middle, tmp_path):
    def build(x):
        return mb.resize_bilinear(x=x, target_size_height=1, target_size_width=1, sampling_mode=mode)

    assert run_program(build, {"x": np.float32([[[[7, 8, 9]]]])}, tmp_path).item() == middle


@pytest.mark.parametrize("mode", GRIDS)
def test_linear_resizing_follows_a_flexible_shape(mode, tmp_path):
    def build(x):
        return mb.resize_bilinear(x=x, target_size_height=5, target_size_width=13, sampling_mode=mode)

    spec = make_spec(build, {"x": ((2, 4, None, None), "float32")}, tmp_path)
    rows, columns = interpolation_matrix(9, 5, mode), interpolation_matrix(8, 13, mode)
    expected = np.einsum("ih,nchw,jw->ncij", rows, IMAGE, columns)
    np.testing.assert_allclose(run_spec(spec, {"x": IMAGE}, tmp_path)[0], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 3, 7), (2, 1, 3, 2, 7), (2, 1, 2, 1, 3, 7)])
def test_linear_resizing_takes_any_number_of_dimensions(shape, tmp_path):
    x = RNG.normal(size=shape).astype(np.float32)

    def build(x):
        return mb.resize(x=x, shape=np.int32([11]), resized_dims=np.uint32(1), sampling_mode="UNALIGN_CORNERS")

    expected = x @ interpolation_matrix(7, 11, "UNALIGN_CORNERS").T
    np.testing.assert_allclose(run_program(build, {"x": x}, tmp_path), expected, atol=1e-5)


def test_three_dimensions_are_resized_at_once(tmp_path):
    x = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)

    def build(x):
        return mb.resize(x=x, shape=np.int32([5, 2, 7]), resized_dims=np.uint32(3), sampling_mode="DEFAULT")

    first, second, third = (interpolation_matrix(*sizes, "DEFAULT") for sizes in ((3, 5), (4, 2), (5, 7)))
    expected = np.einsum("nabc,ia,jb,kc->nijk", x, first, second, third)
    np.testing.assert_allclose(run_program(build, {"x": x}, tmp_path), expected, atol=1e-5)


def test_whole_numbers_are_resized_to_whole_numbers(tmp_path):
    x = np.int32([[0, 5, 10]])

    def build(x):
        return mb.resize(x=x, shape=np.int32([5]), resized_dims=np.uint32(1), sampling_mode="STRICT_ALIGN_CORNERS")

    found = run_program(build, {"x": x}, tmp_path)
    assert found.dtype == np.int32
    assert found.tolist() == [[0, 2, 5, 7, 10]]


@pytest.mark.parametrize("mode", sorted(set(GRIDS) - {"DEFAULT"}))
def test_nearest_resizing_reads_the_pixel_nearest_to_the_grid_of_its_mode(mode, tmp_path):
    x = np.float32([[5, 7, 9, 11]])

    def build(x):
        return mb.resize(
            x=x,
            shape=np.int32([7]),
            resized_dims=np.uint32(1),
            interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode=mode,
        )

    places = [int(point + 0.5) for point in grid(4, 7, mode)]
    np.testing.assert_array_equal(run_program(build, {"x": x}, tmp_path), x[:, places])


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({"align_corners": True}, "STRICT_ALIGN_CORNERS"),
        ({"align_corners": False}, "UNALIGN_CORNERS"),
        ({"align_corners": False, "half_pixel_centers": False}, "DEFAULT"),
    ],
)
def test_linear_upsampling_by_a_factor_rounds_sizes_down(options, mode, tmp_path):
    def build(x):
        return mb.upsample_bilinear(x=x, scale_factor_height=2.3, scale_factor_width=1.5, **options)

    rows, columns = interpolation_matrix(9, 20, mode), interpolation_matrix(8, 12, mode)
    expected = np.einsum("ih,nchw,jw->ncij", rows, IMAGE, columns)
    np.testing.assert_allclose(run_program(build, {"x": IMAGE}, tmp_path), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "places"),
    [
        (lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_width=2), [0, 0, 1, 1, 2, 2]),
        (lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_width=1.12), [0, 1, 2]),
        (lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_width=0.67), [0, 1]),
        (lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=1, target_size_width=2), [0, 2]),
        (lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=1, target_size_width=4), [0, 1, 1, 2]),
        (
            lambda x: mb.resize(
                x=x, shape=[0, 4], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"
            ),
            [0, 1, 1, 2],
        ),
    ],
)
def test_nearest_resizing_reads_the_pixels_that_coremltools_tests_expect(build, places, tmp_path):
    x = np.float32([[[[5, 7, 9]]]])
    np.testing.assert_array_equal(run_program(build, {"x": x}, tmp_path), x[..., places])


@pytest.mark.parametrize(
    ("build", "places"),
    [
        (lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_width=2), [0, 0, 1, 1, 2, 2]),
        (lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_width=0.67), [0, 1]),
        (lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=1, target_size_width=2), [0, 2]),
    ],
)
def test_nearest_resizing_follows_a_flexible_shape(build, places, tmp_path):
    x = np.float32([[[[5, 7, 9]]]])
    spec = make_spec(build, {"x": ((1, 1, None, None), "float32")}, tmp_path)
    np.testing.assert_array_equal(run_spec(spec, {"x": x}, tmp_path)[0], x[..., places])


def test_linear_upsampling_follows_a_flexible_shape(tmp_path):
    def build(x):
        return mb.upsample_bilinear(x=x, scale_factor_height=2.3, scale_factor_width=1.5, align_corners=True)

    spec = make_spec(build, {"x": ((2, 4, None, None), "float32")}, tmp_path)
    mode = "STRICT_ALIGN_CORNERS"
    rows, columns = interpolation_matrix(9, 20, mode), interpolation_matrix(8, 12, mode)
    expected = np.einsum("ih,nchw,jw->ncij", rows, IMAGE, columns)
    np.testing.assert_allclose(run_spec(spec, {"x": IMAGE}, tmp_path)[0], expected, atol=1e-5)


def test_a_target_size_may_be_computed_by_the_program(tmp_path):
    def build(x, size):
        return mb.resize(x=x, shape=size, resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS")

    found = run_program(build, {"x": IMAGE, "size": np.int32([18, 0])}, tmp_path)
    expected = np.einsum("ih,nchw->nciw", interpolation_matrix(9, 18, "UNALIGN_CORNERS"), IMAGE)
    np.testing.assert_allclose(found, expected, atol=1e-5)


SQUARE = np.float32([[[[11, 22], [33, 44]]]])
PLACES = np.float32([[[[-1, -2], [-3.7, -1]], [[0, 0], [3.5, 1.2]]]])


@pytest.mark.parametrize(
    ("sampling", "padding", "value", "coordinates", "aligned", "expected"),
    [
        # Expected values are those of coremltools' own test of the operation.
        ("bilinear", "constant", 6.17, "normalized_minus_one_to_one", True, [8.585, 6.17, 27.5, 6.17]),
        ("nearest", "border", -1.0, "unnormalized", False, [11, 11, 11, 44]),
        ("bilinear", "reflection", -1.0, "normalized_zero_to_one", True, [22, 36.3, 11, 34.1]),
        ("nearest", "symmetric", -1.0, "normalized_zero_to_one", False, [22, 33, 11, 33]),
        # By hand, reflected at 0 and 1: (1, 0), (0.3, 1), (0, 0) and (0.5, 0.8); a half goes to the even pixel.
        ("nearest", "reflection", -1.0, "unnormalized", False, [22, 33, 11, 33]),
        # By hand, reflected at the edges -0.5 and 1.5: (0, 1), (0.3, 0), (0, 0) and (-0.5, 1.2), which is (0, 1).
        ("bilinear", "symmetric", 0.0, "unnormalized", False, [33, 14.3, 11, 33]),
        ("bilinear", "constant", 0.0, "normalized_minus_one_to_one", False, [0, 0, 27.5, 0]),
    ],
)
def test_resampling_reads_between_pixels(sampling, padding, value, coordinates, aligned, expected, tmp_path):
    def build(x, places):
        return mb.resample(
            x=x,
            coordinates=places,
            sampling_mode=sampling,
            padding_mode=padding,
            padding_value=value,
            coordinates_mode=coordinates,
            align_corners=aligned,
        )

    found = run_program(build, {"x": SQUARE, "places": PLACES}, tmp_path)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5)


@pytest.mark.parametrize("padding", ["reflection", "symmetric"])
def test_an_image_of_one_pixel_is_the_same_in_every_mirror(padding, tmp_path):
    def build(x, places):
        return mb.resample(
            x=x,
            coordinates=places,
            sampling_mode="bilinear",
            padding_mode=padding,
            padding_value=0.0,
            coordinates_mode="unnormalized",
            align_corners=True,
        )

    found = run_program(build, {"x": np.float32([[[[5]]]]), "places": PLACES}, tmp_path)
    assert found.tolist() == [[[[5, 5], [5, 5]]]]


def test_resampling_follows_a_flexible_image(tmp_path):
    def build(x, places):
        return mb.resample(
            x=x,
            coordinates=places,
            sampling_mode="bilinear",
            padding_mode="border",
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=False,
        )

    inputs = {"x": ((1, 1, None, None), "float32"), "places": PLACES}
    spec = make_spec(build, inputs, tmp_path)
    image = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    places = np.float32([[[[0, 0], [-1, -1]], [[0.75, 0], [9, 9]]]])
    found = run_spec(spec, {"x": image, "places": places}, tmp_path)[0]
    np.testing.assert_allclose(found, [[[[5.5, 0], [7, 11]]]], rtol=1e-6)


def test_affine_transforms_the_grid(tmp_path):
    def build(x, matrix):
        return mb.affine(
            x=x,
            transform_matrix=matrix,
            output_height=3,
            output_width=2,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        )

    # x' = y, y' = x: the transposed image, its columns at three places
    found = run_program(build, {"x": SQUARE, "matrix": np.float32([[0, 1, 0, 1, 0, 0]])}, tmp_path)
    np.testing.assert_allclose(found[0, 0], [[11, 33], [16.5, 38.5], [22, 44]], rtol=1e-6)
