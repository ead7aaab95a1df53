"""Convolutions, poolings, normalizations and resizing: operations that coremltools defines in words only."""

import itertools

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.ml_program.ops.image_resizing import interpolation_matrix

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(2, 4, 9, 8)).astype(np.float32)


def convolve(x, weight, bias, strides, pads, dilations, groups):
    """Convolution as its definition has it, one output element after the other."""
    spatial = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    sizes = [(n - e) // s + 1 for n, e, s in zip(x.shape[2:], extents, strides, strict=True)]
    per_group = weight.shape[0] // groups
    result = np.zeros((x.shape[0], weight.shape[0], *sizes))
    for place in itertools.product(*map(range, sizes)):
        window = tuple(
            slice(i * s, i * s + e, d) for i, s, e, d in zip(place, strides, extents, dilations, strict=True)
        )
        for group in range(groups):
            channels = slice(group * weight.shape[1], (group + 1) * weight.shape[1])
            kernels = slice(group * per_group, (group + 1) * per_group)
            patch = x[(slice(None), channels, *window)].astype(np.float64)
            axes = list(range(1, spatial + 2))
            result[(slice(None), kernels, *place)] = np.tensordot(patch, weight[kernels], (axes, axes))
    return result + np.reshape(bias, (1, -1) + (1,) * spatial)


@pytest.mark.parametrize(
    ("pad_type", "pad", "pads", "strides", "dilations", "groups"),
    [
        ("valid", None, [(0, 0), (0, 0)], [1, 1], [1, 1], 1),
        ("valid", None, [(0, 0), (0, 0)], [2, 3], [1, 2], 2),
        ("custom", [1, 2, 0, 3], [(1, 2), (0, 3)], [2, 1], [2, 1], 4),
        ("same", None, [(1, 1), (0, 1)], [2, 2], [1, 1], 1),
        ("same_lower", None, [(1, 1), (1, 0)], [2, 2], [1, 1], 1),
        ("same", None, [(2, 2), (1, 1)], [1, 1], [2, 1], 2),
    ],
)
def test_convolutions_follow_their_definition(pad_type, pad, pads, strides, dilations, groups, tmp_path):
    weight = RNG.normal(size=(8, 4 // groups, 3, 3)).astype(np.float32)
    bias = RNG.normal(size=8).astype(np.float32)
    options = {"pad": pad} if pad else {}

    def build(x):
        return mb.conv(
            x=x,
            weight=weight,
            bias=bias,
            pad_type=pad_type,
            strides=strides,
            dilations=dilations,
            groups=groups,
            **options,
        )

    expected = convolve(IMAGE, weight, bias, strides, pads, dilations, groups)
    np.testing.assert_allclose(run_program(build, {"x": IMAGE}, tmp_path), expected, atol=1e-5)


@pytest.mark.parametrize("spatial", [1, 3])
def test_convolutions_have_one_to_three_dimensions(spatial, tmp_path):
    x = RNG.normal(size=(1, 2, *[5] * spatial)).astype(np.float32)
    weight = RNG.normal(size=(3, 2, *[2] * spatial)).astype(np.float32)
    expected = convolve(x, weight, np.zeros(3), [1] * spatial, [(0, 0)] * spatial, [1] * spatial, 1)
    found = run_program(lambda x: mb.conv(x=x, weight=weight), {"x": x}, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def transposed(x, weight, strides, extents):
    """Transposed convolution without padding: every input element adds a scaled kernel."""
    sizes = [(n - 1) * s + e for n, s, e in zip(x.shape[2:], strides, extents, strict=True)]
    result = np.zeros((x.shape[0], weight.shape[1], *sizes))
    for i, j in itertools.product(*map(range, x.shape[2:])):
        rows, columns = i * strides[0], j * strides[1]
        added = np.einsum("nc,cokl->nokl", x[:, :, i, j], weight)
        result[:, :, rows : rows + extents[0], columns : columns + extents[1]] += added
    return result


@pytest.mark.parametrize(
    ("options", "rows", "columns"),
    [
        ({"pad_type": "valid"}, (0, 0), (0, 0)),
        ({"pad_type": "custom", "pad": [1, 0, 1, 2]}, (1, 0), (1, 2)),
        # 9 * 2 of 19 rows; 8 * 2 of 18 columns
        ({"pad_type": "same"}, (0, 1), (1, 1)),
        ({"pad_type": "custom", "pad": [1, 1, 1, 1], "output_shape": [2, 3, 18, 15]}, (1, 0), (1, 2)),
        ({"pad_type": "valid", "output_shape": [2, 3, 20, 18]}, (0, -1), (0, 0)),
    ],
)
def test_transposed_convolutions_follow_their_definition(options, rows, columns, tmp_path):
    weight = RNG.normal(size=(4, 3, 3, 4)).astype(np.float32)
    bias = RNG.normal(size=3).astype(np.float32)
    full = transposed(IMAGE, weight, (2, 2), (3, 4))
    expected = np.pad(full, [(0, 0), (0, 0), (0, max(-rows[1], 0)), (0, 0)]) + bias[:, None, None]
    expected = expected[:, :, rows[0] : full.shape[2] - rows[1], columns[0] : full.shape[3] - columns[1]]

    def build(x):
        return mb.conv_transpose(x=x, weight=weight, bias=bias, strides=[2, 2], **options)

    found = run_program(build, {"x": IMAGE}, tmp_path)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def pool(x, size, stride, pads, combine, ceil_mode=False):
    """Pooling over windows of the image; what lies outside is not handed to `combine`."""
    (top, bottom), (left, right) = pads
    padded = (x.shape[2] + top + bottom, x.shape[3] + left + right)
    counts = [-(-(n - size) // stride) if ceil_mode else (n - size) // stride for n in padded]
    rows, columns = (
        steps + 1 - (ceil_mode and steps * stride >= n + before)
        for steps, n, before in zip(counts, x.shape[2:], (top, left), strict=True)
    )
    result = np.zeros((*x.shape[:2], rows, columns))
    for i, j in itertools.product(range(rows), range(columns)):
        above, aside = i * stride - top, j * stride - left
        inside = x[:, :, max(above, 0) : above + size, max(aside, 0) : aside + size]
        covered = (min(above + size, x.shape[2] + bottom) - above) * (
            min(aside + size, x.shape[3] + right) - aside
        )
        result[:, :, i, j] = combine(inside.reshape(*x.shape[:2], -1).astype(np.float64), covered)
    return result


POOLS = {
    "max_pool": (mb.max_pool, {}, lambda window, covered: window.max(-1)),
    "avg_pool": (mb.avg_pool, {}, lambda window, covered: window.sum(-1) / covered),
    "avg_pool without padding": (
        mb.avg_pool,
        {"exclude_padding_from_average": True},
        lambda window, covered: window.mean(-1),
    ),
    "l2_pool": (mb.l2_pool, {}, lambda window, covered: np.sqrt((window**2).sum(-1))),
}


@pytest.mark.parametrize(
    ("stride", "options", "pads"),
    [
        (1, {"pad_type": "valid"}, [(0, 0), (0, 0)]),
        (2, {"pad_type": "custom", "pad": [1, 1, 0, 2]}, [(1, 1), (0, 2)]),
        (2, {"pad_type": "same"}, [(1, 1), (0, 1)]),
        (2, {"pad_type": "same_lower"}, [(1, 1), (1, 0)]),
        (2, {"pad_type": "valid", "ceil_mode": True}, [(0, 0), (0, 0)]),
        (3, {"pad_type": "custom", "pad": [1, 1, 1, 1], "ceil_mode": True}, [(1, 1), (1, 1)]),
    ],
)
@pytest.mark.parametrize("name", POOLS)
def test_poolings_follow_their_definition(name, stride, options, pads, tmp_path):
    operation, more, combine = POOLS[name]
    expected = pool(IMAGE, 3, stride, pads, combine, options.get("ceil_mode", False))

    def build(x):
        return operation(x=x, kernel_sizes=[3, 3], strides=[stride, stride], **options, **more)

    found = run_program(build, {"x": IMAGE}, tmp_path)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_batch_norm_uses_the_stored_statistics(tmp_path):
    mean, beta = (RNG.normal(size=4).astype(np.float32) for _ in range(2))
    variance, gamma = (RNG.uniform(0.5, 2, 4).astype(np.float32) for _ in range(2))

    def build(x):
        return mb.batch_norm(x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=0.01)

    def spread(vector):
        return vector[:, None, None]

    expected = (IMAGE - spread(mean)) / np.sqrt(spread(variance) + 0.01) * spread(gamma) + spread(beta)
    np.testing.assert_allclose(run_program(build, {"x": IMAGE}, tmp_path), expected, atol=1e-5)
    plain = run_program(
        lambda x: mb.batch_norm(x=x, mean=mean, variance=variance), {"x": IMAGE[..., 0].copy()}, tmp_path
    )
    expected = (IMAGE[..., 0] - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
    np.testing.assert_allclose(plain, expected, atol=1e-5)


def test_instance_norm_uses_the_statistics_of_each_channel(tmp_path):
    gamma, beta = np.float32([1, 2, 3, 4]), np.float32([4, 3, 2, 1])

    def build(x):
        return mb.instance_norm(x=x, gamma=gamma, beta=beta, epsilon=0.01)

    centred = IMAGE - IMAGE.mean((2, 3), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean((2, 3), keepdims=True) + 0.01)
    expected = expected * gamma[:, None, None] + beta[:, None, None]
    np.testing.assert_allclose(run_program(build, {"x": IMAGE}, tmp_path), expected, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3])
def test_local_response_norm_looks_at_the_neighbouring_channels_of_pytorch(size, tmp_path):
    squares = np.pad(IMAGE**2, [(0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0)])
    sums = sum(squares[:, start : start + 4] for start in range(size))
    expected = IMAGE / (2 + 0.5 / size * sums) ** 0.75

    def build(x):
        return mb.local_response_norm(x=x, size=size, alpha=0.5, beta=0.75, k=2.0)

    np.testing.assert_allclose(run_program(build, {"x": IMAGE}, tmp_path), expected, atol=1e-5)


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


def test_channels_and_blocks_of_pixels_change_places(tmp_path):
    x = np.arange(2 * 8 * 4 * 6, dtype=np.float32).reshape(2, 8, 4, 6)
    blocks = x.reshape(2, 2, 2, 2, 4, 6)
    # pixel_shuffle: the place in the block is the faster part of the channel number
    shuffled = x.reshape(2, 2, 2, 2, 4, 6).transpose(0, 1, 4, 2, 5, 3).reshape(2, 2, 8, 12)
    deep = blocks.transpose(0, 3, 4, 1, 5, 2).reshape(2, 2, 8, 12)
    check = [
        (lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), x, shuffled),
        (lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), shuffled, x),
        (lambda x: mb.depth_to_space(x=x, block_size=2), x, deep),
        (lambda x: mb.space_to_depth(x=x, block_size=2), deep, x),
    ]
    for build, given, expected in check:
        np.testing.assert_array_equal(run_program(build, {"x": given.copy()}, tmp_path), expected)


def test_blocks_of_pixels_go_to_the_batch_and_back(tmp_path):
    x = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)
    batches = run_program(
        lambda x: mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[0, 0], [1, 2]]), {"x": x}, tmp_path
    )
    assert batches.shape == (12, 3, 2, 3)
    padded = np.pad(x, [(0, 0), (0, 0), (0, 0), (1, 2)])
    np.testing.assert_array_equal(batches[2 * (3 + 2)], padded[0, :, 1::2, 2::3])
    back = run_program(
        lambda x: mb.batch_to_space(x=x, block_shape=[2, 3], crops=[[0, 0], [1, 2]]), {"x": batches}, tmp_path
    )
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize(
    ("mode", "combine"),
    [
        ("update", lambda old, new: new),
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        ("div", np.divide),
        ("max", np.maximum),
        ("min", np.minimum),
    ],
)
def test_scattering_combines_old_and_new(mode, combine, tmp_path):
    data, updates = IMAGE[0, 0], IMAGE[0, 1, :2] + 5
    expected = data.copy()
    expected[[3, 0]] = combine(data[[3, 0]], updates)
    places = np.int32([3, 0])
    found = run_program(
        lambda d, u: [
            mb.scatter(data=d, indices=places, updates=u, axis=0, mode=mode),
            mb.scatter_nd(data=d, indices=places[:, None], updates=u, mode=mode),
        ],
        {"d": data, "u": updates},
        tmp_path,
    )
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found[1], expected, rtol=1e-6)


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


def test_sequences_are_reversed_up_to_their_length(tmp_path):
    x = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3)
    found = run_program(
        lambda x, lengths: mb.reverse_sequence(x=x, lengths=lengths, seq_axis=1, batch_axis=0),
        {"x": x, "lengths": np.int32([3, 0])},
        tmp_path,
    )
    np.testing.assert_array_equal(found, np.stack([x[0, [2, 1, 0, 3]], x[1]]))


def test_a_slice_is_replaced(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    update = -np.ones((3, 2), np.float32)

    def build(x, update):
        return mb.slice_update(
            x=x,
            update=update,
            begin=[-1, 0, 3],
            end=[0, 0, 0],
            stride=[1, 1, -2],
            end_mask=[False, True, True],
            squeeze_mask=[True, False, False],
        )

    expected = x.copy()
    expected[-1, :, 3::-2] = update
    np.testing.assert_array_equal(run_program(build, {"x": x, "update": update}, tmp_path), expected)


def test_dequantize_inverts_quantize(tmp_path):
    scale, zero = np.float32([0.1, 0.2, 0.3, 0.4]), np.uint8([10, 20, 30, 40])

    def build(x):
        quantized = mb.quantize(input=x, scale=scale, zero_point=zero, axis=1, output_dtype="uint8")
        return mb.dequantize(input=quantized, scale=scale, zero_point=zero, axis=1)

    steps, offset = scale[:, None, None], zero[:, None, None].astype(float)
    expected = (np.clip(np.round(IMAGE / steps) + offset, 0, 255) - offset) * steps
    np.testing.assert_allclose(run_program(build, {"x": IMAGE}, tmp_path), expected, atol=1e-5)


def test_more_ways_to_make_tensors(tmp_path):
    indices = np.int32([[1, 0], [2, 3]])

    def build(i):
        return [
            mb.one_hot(indices=i, one_hot_vector_size=4, axis=1, on_value=2.0, off_value=-1.0),
            mb.fill(shape=[2, 3], value=7.0),
            mb.range_1d(start=1, end=8, step=3),
            mb.sliding_windows(x=mb.cast(x=i, dtype="fp32"), axis=1, size=1, stride=1),
            mb.concat(values=(i, mb.add(x=i, y=10)), axis=0, interleave=True),
            mb.reshape_like(x=i, ref_tensors=(mb.fill(shape=[4, 9]),), begins=(0,), ends=(1,), end_masks=(False,)),
        ]

    found = run_program(build, {"i": indices}, tmp_path)
    np.testing.assert_array_equal(found[0], np.where(np.eye(4)[indices].transpose(0, 2, 1) > 0, 2, -1))
    np.testing.assert_array_equal(found[1], np.full((2, 3), 7))
    np.testing.assert_array_equal(found[2], [1, 4, 7])
    np.testing.assert_array_equal(found[3], indices[..., None])
    np.testing.assert_array_equal(found[4], [[1, 0], [11, 10], [2, 3], [12, 13]])
    np.testing.assert_array_equal(found[5], [1, 0, 2, 3])


def test_crop_takes_from_both_ends(tmp_path):
    found = run_program(lambda x: mb.crop(x=x, crop_height=[1, 0], crop_width=[0, 3]), {"x": IMAGE}, tmp_path)
    np.testing.assert_array_equal(found, IMAGE[:, :, 1:, :-3])


def test_thresholded_relu_keeps_the_threshold_itself(tmp_path):
    x = np.float32([0.5, 0.49, 0.51, -1])
    found = run_program(lambda x: mb.thresholded_relu(x=x, alpha=0.5), {"x": x}, tmp_path)
    np.testing.assert_array_equal(found, np.float32([0.5, 0, 0.51, 0]))


def test_division_of_whole_numbers_drops_the_fraction(tmp_path):
    x, y = np.int32([10, 20, 60, 7]), np.int32([11, 12, 16, 7])
    np.testing.assert_array_equal(
        run_program(lambda x, y: mb.real_div(x=x, y=y), {"x": x, "y": y}, tmp_path), [0, 1, 3, 1]
    )


def test_zeros_in_a_shape_count_from_the_end_since_ios17(tmp_path):
    x = np.arange(100, dtype=np.float32).reshape(2, 50)
    found = run_program(lambda x: mb.reshape(x=x, shape=[1, 0, -1, 0]), {"x": x}, tmp_path, "iOS17")
    assert found.shape == (1, 1, 2, 50)


def test_half_precision_is_computed_in_single_precision(tmp_path):
    x = np.float16([0.1, 1000.0, 3.0])

    def build(x):
        x = mb.cast(x=mb.mul(x=x, y=np.float16(1000)), dtype="fp16")
        return mb.cast(x=mb.real_div(x=x, y=np.float16(1000)), dtype="fp32")

    spec = make_spec(build, {"x": x}, tmp_path)
    # 1000 * 1000 would be infinite in half precision.
    np.testing.assert_allclose(run_spec(spec, {"x": x.astype(np.float32)}, tmp_path)[0], x, rtol=1e-6)


def test_flexible_shapes_run_in_several_sizes(tmp_path):
    weight = RNG.normal(size=(8, 4, 3, 3)).astype(np.float32)

    def build(x):
        x = mb.conv(x=x, weight=weight, pad_type="same", strides=[2, 2])
        x = mb.max_pool(x=mb.relu(x=x), kernel_sizes=[2, 2], strides=[2, 2], pad_type="same")
        size = mb.slice_by_index(x=mb.shape(x=x), begin=[2], end=[4])
        flat = mb.reshape(
            x=x, shape=mb.concat(values=(np.int32([1, 8]), mb.reduce_prod(x=size, keep_dims=True)), axis=0)
        )
        return mb.reduce_mean(x=flat, axes=[-1])

    spec = make_spec(build, {"x": ((1, 4, None, None), "float32")}, tmp_path)
    for height, width in ((9, 8), (7, 4)):
        x = IMAGE[:1, :, :height, :width].copy()
        fixed = run_program(build, {"x": x}, tmp_path)
        np.testing.assert_allclose(run_spec(spec, {"x": x}, tmp_path)[0], fixed, rtol=1e-5)


def test_a_dilated_same_padding_over_a_flexible_shape_is_refused(tmp_path):
    weight = RNG.normal(size=(8, 4, 3, 3)).astype(np.float32)

    def build(x):
        return mb.conv(x=x, weight=weight, pad_type="same", strides=[2, 2], dilations=[2, 2], name="wide")

    spec = make_spec(build, {"x": ((1, 4, None, None), "float32")}, tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"^operation 'conv' \(output 'wide'\): a dilated kernel"):
        run_spec(spec, {}, tmp_path)
