"""Operations on tensors that coremltools defines in words only, types and flexible shapes."""

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec

from pytest_quantguard.quiet import import_coremltools

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(2, 4, 9, 8)).astype(np.float32)


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
