"""Flexible shapes: a program for any size answers as the one made for that size."""

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec

from pytest_quantguard.quiet import import_coremltools

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

RNG = np.random.default_rng(5)
IMAGE = RNG.normal(size=(2, 4, 6, 8)).astype(np.float32)
WEIGHT = RNG.normal(size=(4, 4, 3, 3)).astype(np.float32)
LOWEST = np.finfo(np.float32).min
BIAS = np.float32([1, 2, 3, 4])
SIZES = (2, 4, None, None)
ANY = (None, None, None, None)


def dilated(pad_type):
    return lambda x: mb.conv(x=x, weight=WEIGHT, pad_type=pad_type, strides=[2, 3], dilations=[2, 2])


def transposed(height, width, **options):
    def build(x):
        shape = [2, 4, height, width]
        return mb.conv_transpose(x=x, weight=WEIGHT, bias=BIAS, strides=[2, 2], output_shape=shape, **options)

    return build


def pooled(operation, **options):
    def build(x):
        return operation(x=x, kernel_sizes=[2, 3], strides=[3, 2], pad_type="custom", pad=[1, 1, 1, 1], **options)

    return build


BUILDS = {
    "dilated": (dilated("same"), SIZES),
    "dilated, lower": (dilated("same_lower"), SIZES),
    "transposed, same": (transposed(12, 16, pad_type="same"), SIZES),
    "transposed, valid and longer": (transposed(14, 16, pad_type="valid"), SIZES),
    "transposed, custom": (transposed(12, 15, pad_type="custom", pad=[1, 0, 0, 2]), SIZES),
    "max_pool": (pooled(mb.max_pool, ceil_mode=True), SIZES),
    "l2_pool": (pooled(mb.l2_pool, ceil_mode=True), SIZES),
    "avg_pool": (pooled(mb.avg_pool, ceil_mode=True, exclude_padding_from_average=False), SIZES),
    "avg_pool without padding": (pooled(mb.avg_pool, ceil_mode=True, exclude_padding_from_average=True), SIZES),
    "instance_norm": (lambda x: mb.instance_norm(x=x), ANY),
    "local_response_norm": (lambda x: mb.local_response_norm(x=x, size=3, alpha=0.5), ANY),
    "attention": (lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=x), (2, 4, 6, None)),
    "sliding_windows": (lambda x: mb.sliding_windows(x=x, axis=3, size=3, stride=2), ANY),
    "interleave": (
        lambda x: mb.concat(values=(x, mb.square(x=x)), axis=1, interleave=True),
        (None, 4, None, None),
    ),
    "interleave, last": (lambda x: mb.concat(values=(x, mb.square(x=x)), axis=-1, interleave=True), SIZES),
    "reshape": (lambda x: mb.reshape(x=x, shape=[-1, 0, 0]), (None, None, 6, None)),
    "reshape, longer": (lambda x: mb.reshape(x=x, shape=[1, 0, -1, 0, 0]), (2, 4, None, None)),
    "squeeze": (lambda x: mb.squeeze(x=mb.expand_dims(x=x, axes=[0]), axes=[0, 3]), SIZES),
    "pixel_unshuffle": (lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), SIZES),
    "space_to_batch": (
        lambda x: mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[1, 1], [0, 1]]),
        (2, 4, None, None),
    ),
    "batch_to_space": (
        lambda x: mb.batch_to_space(x=x, block_shape=[2, 1], crops=[[1, 2], [0, 3]]),
        (2, 4, None, None),
    ),
    "one_hot": (lambda x: mb.one_hot(indices=mb.cast(x=x, dtype="int32"), one_hot_vector_size=3), ANY),
    "cumsum": (lambda x: mb.cumsum(x=x, axis=2, exclusive=True, reverse=True), ANY),
    "band_part": (lambda x: mb.band_part(x=x, lower=1, upper=0), ANY),
    "fill_like": (lambda x: mb.fill_like(ref_tensor=x, value=2.0), ANY),
    "shape": (lambda x: mb.shape(x=x), ANY),
    "argsort": (lambda x: mb.argsort(x=x, axis=2, ascending=True), ANY),
    "topk": (lambda x: mb.topk(x=x, k=2, axis=1)[0], ANY),
    "flatten2d": (lambda x: mb.flatten2d(x=x, axis=2), ANY),
    "layer_norm": (lambda x: mb.layer_norm(x=x, axes=[2, 3]), ANY),
    "einsum": (
        lambda x: mb.einsum(values=(x, mb.transpose(x=x, perm=[0, 3, 2, 1])), equation="abcd,adce->abce"),
        ANY,
    ),
    "reverse_sequence": (
        lambda x: mb.reverse_sequence(x=x, lengths=np.int32([3, 5]), seq_axis=3, batch_axis=0),
        (2, None, None, None),
    ),
}


@pytest.mark.parametrize("name", BUILDS)
def test_a_flexible_program_answers_as_a_fixed_one(name, tmp_path):
    build, shape = BUILDS[name]
    flexible = make_spec(build, {"x": (shape, "float32")}, tmp_path)
    fixed = run_program(build, {"x": IMAGE}, tmp_path)
    found = run_spec(flexible, {"x": IMAGE}, tmp_path)[0]
    assert found.shape == fixed.shape
    np.testing.assert_allclose(found, fixed, rtol=1e-5, atol=1e-5)


def windows(x, kernel, stride, pad, fill):
    """By definition of `ceil_mode`: the windows of a row, and how many of their elements lie in the padded row."""
    padded = np.pad(x, pad, constant_values=fill)
    count = -(-(len(padded) - kernel) // stride) + 1
    if (count - 1) * stride >= len(x) + pad and pad:
        count -= 1
    return [padded[start : start + kernel] for start in range(0, count * stride, stride)]


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (2, 3, 1), (2, 2, 3), (3, 1, 3)])
@pytest.mark.parametrize("size", [5, 8])
@pytest.mark.parametrize("flexible", [False, True])
def test_pooling_covers_the_windows_of_ceil_mode_and_any_padding(kernel, stride, pad, size, flexible, tmp_path):
    row = RNG.normal(size=size).astype(np.float32)

    def build(x):
        options = {
            "kernel_sizes": [kernel],
            "strides": [stride],
            "pad_type": "custom",
            "pad": [pad, pad],
            "ceil_mode": True,
        }
        return [
            mb.max_pool(x=x, **options),
            mb.avg_pool(x=x, exclude_padding_from_average=False, **options),
            mb.avg_pool(x=x, exclude_padding_from_average=True, **options),
            mb.l2_pool(x=x, **options),
        ]

    example = ((1, 1, None), "float32") if flexible else row[None, None]
    spec = make_spec(build, {"x": example}, tmp_path)
    largest, mean, mean_inside, norm = run_spec(spec, {"x": row[None, None]}, tmp_path)
    zeros, missing = windows(row, kernel, stride, pad, 0), windows(row, kernel, stride, pad, np.nan)
    inside = [window[~np.isnan(window)] for window in missing]
    np.testing.assert_allclose(largest[0, 0], [max(window, default=LOWEST) for window in inside])
    np.testing.assert_allclose(mean[0, 0], [window.mean() for window in zeros], atol=1e-6)
    averages = [window.mean() if len(window) else 0 for window in inside]
    np.testing.assert_allclose(mean_inside[0, 0], averages, atol=1e-6)
    np.testing.assert_allclose(norm[0, 0], [np.sqrt((window**2).sum()) for window in zeros], rtol=1e-5)
