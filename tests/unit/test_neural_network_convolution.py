import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers, run
from numpy.lib.stride_tricks import sliding_window_view

from pytest_quantguard.quiet import quiet


def convolved(x, kernel, *, stride=(1, 1), dilation=(1, 1), groups=1):
    """Reference: x (channels, height, width), kernel (outputs, channels / groups, height, width), no padding."""
    outputs = []
    for part, weights in zip(np.split(x, groups), np.split(kernel, groups), strict=True):
        window = [(size - 1) * step + 1 for size, step in zip(kernel.shape[2:], dilation, strict=True)]
        views = sliding_window_view(part, window, axis=(1, 2))
        views = views[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
        outputs.append(np.einsum("chwij,ocij->ohw", views, weights))
    return np.concatenate(outputs)


def deconvolved(x, kernel, stride, groups=1):
    """Reference: the full transposed convolution, kernel (channels, outputs / groups, height, width)."""
    channels, height, width = x.shape
    per_group, (kh, kw) = kernel.shape[1], kernel.shape[2:]
    y = np.zeros((per_group * groups, (height - 1) * stride[0] + kh, (width - 1) * stride[1] + kw))
    for c in range(channels):
        group = c // (channels // groups)
        for i in range(height):
            for j in range(width):
                area = np.s_[i * stride[0] : i * stride[0] + kh, j * stride[1] : j * stride[1] + kw]
                y[(slice(group * per_group, (group + 1) * per_group), *area)] += x[c, i, j] * kernel[c]
    return y


def add(
    builder, kernel, *, bias=None, deconvolution=False, inputs="x", output="y", groups=1, stride=(1, 1), **options
):
    """`kernel` in the order of the specification."""
    outputs = kernel.shape[1] * groups if deconvolution else kernel.shape[0]
    channels = kernel.shape[0] if deconvolution else kernel.shape[1]
    weights = kernel.transpose(2, 3, 0, 1) if deconvolution else kernel.transpose(2, 3, 1, 0)
    builder.add_convolution(
        name="conv",
        kernel_channels=channels,
        output_channels=outputs,
        height=kernel.shape[2],
        width=kernel.shape[3],
        stride_height=stride[0],
        stride_width=stride[1],
        border_mode=options.pop("border_mode", "valid"),
        groups=groups,
        W=weights if isinstance(inputs, str) else None,
        b=bias,
        has_bias=bias is not None,
        is_deconv=deconvolution,
        input_name=inputs,
        output_name=output,
        **options,
    )


def test_convolution_with_stride_and_bias():
    x, kernel, bias = numbers(3, 7, 8), numbers(4, 3, 3, 2, seed=1), numbers(4, seed=2)
    y = run(lambda b: add(b, kernel, bias=bias, stride=(2, 3)), {"x": x})
    close(y, convolved(x, kernel, stride=(2, 3)) + bias[:, None, None])


def test_convolution_in_groups():
    x, kernel = numbers(4, 5, 5), numbers(6, 2, 3, 3, seed=1)
    close(run(lambda b: add(b, kernel, groups=2), {"x": x}), convolved(x, kernel, groups=2))


def test_depthwise_convolution():
    x, kernel = numbers(4, 5, 5), numbers(4, 1, 3, 3, seed=1)
    close(run(lambda b: add(b, kernel, groups=4), {"x": x}), convolved(x, kernel, groups=4))


def test_dilated_convolution():
    x, kernel = numbers(2, 9, 9), numbers(3, 2, 3, 3, seed=1)
    y = run(lambda b: add(b, kernel, dilation_factors=[2, 3]), {"x": x})
    close(y, convolved(x, kernel, dilation=(2, 3)))


def test_valid_padding_has_its_own_amount_per_edge():
    x, kernel = numbers(2, 4, 5), numbers(3, 2, 3, 3, seed=1)
    amounts = {"padding_top": 1, "padding_bottom": 2, "padding_left": 0, "padding_right": 3}
    padded = np.pad(x, ((0, 0), (1, 2), (0, 3)))
    close(run(lambda b: add(b, kernel, **amounts), {"x": x}), convolved(padded, kernel))


@pytest.mark.parametrize(
    "mode, edges", [("BOTTOM_RIGHT_HEAVY", ((0, 1), (1, 2))), ("TOP_LEFT_HEAVY", ((1, 0), (2, 1)))]
)
def test_same_padding_puts_the_odd_pixel_where_the_mode_says(mode, edges):
    x, kernel = numbers(2, 6, 7), numbers(3, 2, 3, 4, seed=1)
    y = run(
        lambda b: add(b, kernel, border_mode="same", same_padding_asymmetry_mode=mode, stride=(2, 1)), {"x": x}
    )
    close(y, convolved(np.pad(x, ((0, 0), *edges)), kernel, stride=(2, 1)))


def test_same_padding_counts_the_dilated_kernel():
    x, kernel = numbers(2, 6, 6), numbers(3, 2, 3, 3, seed=1)
    y = run(lambda b: add(b, kernel, border_mode="same", dilation_factors=[2, 2]), {"x": x})
    close(y, convolved(np.pad(x, ((0, 0), (2, 2), (2, 2))), kernel, dilation=(2, 2)))


def test_same_padding_is_never_negative():
    x, kernel = numbers(1, 5, 5), numbers(1, 1, 1, 1, seed=1)
    y = run(lambda b: add(b, kernel, border_mode="same", stride=(3, 3)), {"x": x})
    close(y, x[:, ::3, ::3] * kernel[0, 0])


def test_weights_may_be_an_input():
    x, kernel = numbers(1, 2, 5, 5), numbers(3, 2, 2, 2, seed=1)
    y = run(lambda b: add(b, kernel, inputs=["x", "w"]), {"x": x, "w": kernel}, exact=True)
    close(y, convolved(x[0], kernel)[None])


def test_convolution_keeps_every_batch_of_a_rank_five_tensor():
    x, kernel = numbers(2, 3, 2, 4, 4), numbers(3, 2, 3, 3, seed=1)
    y = run(lambda b: add(b, kernel), {"x": x}, exact=True)
    close(y, [[convolved(image, kernel) for image in batch] for batch in x])


def test_one_dimensional_convolution_is_one_with_height_one():
    x, kernel = numbers(1, 2, 8), numbers(3, 2, 1, 3, seed=1)

    def layers(builder):
        builder.add_expand_dims("expand", "x", "image", axes=[-2])
        add(builder, kernel, inputs="image", output="rows", padding_left=1)
        builder.add_squeeze("squeeze", "rows", "y", axes=[-2])

    expected = convolved(np.pad(x[0], ((0, 0), (1, 0)))[:, None], kernel)[:, 0]
    close(run(layers, {"x": x}, exact=True), expected[None])


def test_deconvolution_cuts_the_padding_off_the_full_one():
    x, kernel, bias = numbers(2, 4, 5), numbers(2, 3, 3, 4, seed=1), numbers(3, seed=2)
    amounts = {"padding_top": 2, "padding_bottom": 1, "padding_left": 0, "padding_right": 3}
    y = run(lambda b: add(b, kernel, bias=bias, deconvolution=True, stride=(2, 3), **amounts), {"x": x})
    close(y, deconvolved(x, kernel, (2, 3))[:, 2:-1, 0:-3] + bias[:, None, None])


def test_deconvolution_in_groups():
    x, kernel = numbers(4, 3, 3), numbers(4, 2, 3, 3, seed=1)
    y = run(lambda b: add(b, kernel, deconvolution=True, groups=2, stride=(2, 2)), {"x": x})
    close(y, deconvolved(x, kernel, (2, 2), groups=2))


@pytest.mark.parametrize("mode, start", [("BOTTOM_RIGHT_HEAVY", 0), ("TOP_LEFT_HEAVY", 1)])
def test_same_deconvolution_multiplies_the_size_by_the_stride(mode, start):
    x, kernel = numbers(2, 4, 4), numbers(2, 3, 3, 3, seed=1)
    y = run(
        lambda b: add(
            b,
            kernel,
            deconvolution=True,
            stride=(2, 2),
            border_mode="same",
            same_padding_asymmetry_mode=mode,
        ),
        {"x": x},
    )
    close(y, deconvolved(x, kernel, (2, 2))[:, start : start + 8, start : start + 8])


def test_same_deconvolution_with_a_kernel_smaller_than_the_stride_fills_up_with_the_bias():
    x, kernel, bias = numbers(1, 2, 2), numbers(1, 1, 1, 1, seed=1), np.float32([0.5])
    y = run(lambda b: add(b, kernel, bias=bias, deconvolution=True, stride=(3, 3), border_mode="same"), {"x": x})
    expected = np.full((1, 6, 6), 0.5)
    expected[:, ::3, ::3] += x * kernel[0, 0]
    close(y, expected)


@pytest.mark.parametrize("size", [6, 7, 8])
def test_the_output_shape_of_a_deconvolution_overrides_its_padding(size):
    x, kernel = numbers(2, 3, 3), numbers(2, 3, 4, 4, seed=1)
    y = run(
        lambda b: add(b, kernel, deconvolution=True, stride=(2, 2), padding_top=3, output_shape=(size, size)),
        {"x": x},
    )
    cut = 8 - size
    kept = slice(cut // 2, 8 - (cut - cut // 2))
    close(y, deconvolved(x, kernel, (2, 2))[:, kept, kept])


@pytest.mark.parametrize("bias", [None, np.float32([0.5])])
def test_outputs_that_no_input_reaches_hold_the_bias(bias):
    x, kernel = numbers(1, 3, 3), numbers(1, 1, 2, 2, seed=1)
    y = run(lambda b: add(b, kernel, bias=bias, deconvolution=True, stride=(2, 2), output_shape=(9, 10)), {"x": x})
    reached = np.pad(deconvolved(x, kernel, (2, 2)), ((0, 0), (0, 3), (0, 4)))
    close(y, reached + (0 if bias is None else 0.5))


def test_dilated_deconvolution():
    x, kernel = numbers(2, 3, 3), numbers(2, 1, 2, 3, seed=1)
    spread = np.zeros((2, 1, 3, 5), np.float32)
    spread[:, :, ::2, ::2] = kernel
    y = run(
        lambda b: add(b, kernel, deconvolution=True, dilation_factors=[2, 2], stride=(2, 1), padding_top=1),
        {"x": x},
    )
    close(y, deconvolved(x, spread, (2, 1))[:, 1:])


def test_parameters_that_are_not_set_have_their_defaults():
    x, kernel = numbers(1, 5, 5), numbers(2, 1, 3, 3, seed=1)
    builder = make_builder({"x": x})
    with quiet():
        add(builder, kernel)
    params = builder.nn_spec.layers[0].convolution
    for field in ("kernelSize", "stride", "dilationFactor", "nGroups"):
        params.ClearField(field)
    params.valid.ClearField("paddingAmounts")
    close(make_engine(builder).predict({"x": x})["y"][0, 0], convolved(x, kernel))


def test_three_dimensional_convolution():
    x, kernel = numbers(1, 2, 5, 5, 5), numbers(3, 2, 3, 3, 3, seed=1)

    def layers(builder):
        builder.add_convolution3d(
            "conv", 2, 3, 3, 3, 3, kernel, None, False, padding_mode="same", input_name="x", output_name="y"
        )

    views = sliding_window_view(np.pad(x[0], ((0, 0), (1, 1), (1, 1), (1, 1))), (3, 3, 3), axis=(1, 2, 3))
    close(run(layers, {"x": x}, exact=True), np.einsum("cdhwijk,ocijk->odhw", views, kernel)[None])


@pytest.mark.parametrize("mode, size", [("valid", 5), ("same", 4)])
def test_three_dimensional_deconvolution_undoes_a_stride(mode, size):
    """A kernel that is 1 in its first corner puts the values apart."""
    x, kernel = numbers(1, 2, 2, 2, 2), np.zeros((3, 2, 3, 3, 3), np.float32)
    kernel[:, :, 0, 0, 0] = numbers(3, 2, seed=1)

    def layers(builder):
        builder.add_convolution3d(
            "conv",
            2,
            3,
            3,
            3,
            3,
            kernel,
            None,
            False,
            stride_depth=2,
            stride_height=2,
            stride_width=2,
            is_deconv=True,
            padding_mode=mode,
            input_name="x",
            output_name="y",
        )

    expected = np.zeros((1, 3, size, size, size))
    expected[:, :, :4:2, :4:2, :4:2] = np.einsum("oc,bcdhw->bodhw", kernel[:, :, 0, 0, 0], x)
    close(run(layers, {"x": x}, exact=True), expected)
