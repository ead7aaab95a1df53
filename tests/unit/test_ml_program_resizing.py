"""Resizing and resampling of images, which coremltools defines in words only."""

import numpy as np
import pytest
from ml_program_makers import run_program

from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.ml_program.ops.image_resizing import interpolation_matrix

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(2, 4, 9, 8)).astype(np.float32)


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


def test_one_aligned_column_is_the_middle_one_and_strictly_aligned_the_first_one():
    assert interpolation_matrix(3, 1, "ALIGN_CORNERS").tolist() == [[0, 1, 0]]
    assert interpolation_matrix(3, 1, "STRICT_ALIGN_CORNERS").tolist() == [[1, 0, 0]]


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
