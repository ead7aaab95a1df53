"""Convolutions, poolings and normalizations, which coremltools defines in words only."""

import itertools

import numpy as np
import pytest
from ml_program_makers import run_program

from pytest_quantguard.quiet import import_coremltools

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


def test_local_response_norm_of_three_dimensions_looks_along_the_first_as_coremltools_test_expects(tmp_path):
    x = IMAGE[0]
    squares = np.pad(x**2, [(1, 1), (0, 0), (0, 0)])
    expected = x / (1 + 0.5 / 3 * (squares[:-2] + squares[1:-1] + squares[2:])) ** 0.75
    found = run_program(lambda x: mb.local_response_norm(x=x, size=3, alpha=0.5), {"x": x}, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("scale", "shift"), [([0.5], [-3.0]), ([0.5, 0.25, 2.0], [1.0, 2.0, -3.0])])
def test_a_quantized_convolution_decodes_its_weight_and_pads_as_others(scale, shift, tmp_path):
    weight = RNG.integers(0, 255, (3, 2, 3, 3)).astype(np.uint8)

    def build(x):
        return mb.conv_quantized(
            x=x,
            weight=weight,
            quantization_type="linear",
            nbits=8,
            quant_scale=np.float32(scale),
            quant_bias=np.float32(shift),
            pad_type="custom",
            pad=[1, 0, 0, 2],
            strides=[2, 1],
        )

    image = IMAGE[:, :2].copy()
    decoded = weight * np.reshape(scale, (-1, 1, 1, 1)) + np.reshape(shift, (-1, 1, 1, 1))
    expected = convolve(image, decoded, 0, [2, 1], [(1, 0), (0, 2)], [1, 1], 1)
    np.testing.assert_allclose(run_program(build, {"x": image}, tmp_path, "iOS15"), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("reduce_sum", IMAGE), ("reduce_l1_norm", np.abs(IMAGE)), ("reduce_sum_square", IMAGE**2)],
)
@pytest.mark.parametrize("keep_dims", [False, True])
def test_a_reduction_along_no_axis_takes_each_element_by_itself(operation, expected, keep_dims, tmp_path):
    def build(x):
        return getattr(mb, operation)(x=x, axes=np.zeros(0, np.int32), keep_dims=keep_dims)

    np.testing.assert_allclose(run_program(build, {"x": IMAGE}, tmp_path), expected, rtol=1e-6)
