import numpy as np
import pytest
from network_runner import close, counting, make_builder, make_engine, numbers, run

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.quiet import quiet

X = counting(4, 2, 3)


def refused(match, inputs, add, *, exact=False):
    builder = make_builder(inputs, exact=exact)
    with quiet():
        add(builder)
    with pytest.raises(UnsupportedModelError, match=match):
        make_engine(builder)


def test_reshape_in_channel_first_order():
    close(run(lambda b: b.add_reshape("r", "x", "y", (2, 3, 4), 0), {"x": X}), X.reshape(2, 3, 4))


def test_reshape_in_channel_last_order_goes_through_height_width_channels():
    y = run(lambda b: b.add_reshape("r", "x", "y", (2, 3, 4), 1), {"x": X})
    close(y, X.transpose(1, 2, 0).reshape(3, 4, 2).transpose(2, 0, 1))


def test_a_reshape_of_length_four_sets_the_sequence():
    close(run(lambda b: b.add_reshape("r", "x", "y", (2, 3, 2, 2), 0), {"x": X}), X.reshape(2, 1, 3, 2, 2))


def test_a_reshape_to_another_size_is_refused():
    refused("layer 'r': a target shape", {"x": X}, lambda b: b.add_reshape("r", "x", "y", (2, 3, 5), 0))


@pytest.mark.parametrize("mode, order", [(0, (0, 1, 2)), (1, (1, 2, 0))])
def test_flatten(mode, order):
    y = run(lambda b: b.add_flatten("f", mode, "x", "y"), {"x": X})
    close(y, X.transpose(order).reshape(-1, 1, 1))


def test_flatten_keeps_the_batch():
    x = counting(2, 3, 2, 2)
    close(run(lambda b: b.add_flatten("f", 0, "x", "y"), {"x": x}, exact=True), x.reshape(2, 12, 1, 1))


@pytest.mark.parametrize("axis, shape", [(-1, (8, 3)), (0, (1, 24)), (1, (4, 6)), (3, (24, 1))])
def test_flatten_to_two_dimensions(axis, shape):
    close(run(lambda b: b.add_flatten_to_2d("f", "x", "y", axis=axis), {"x": X}, exact=True), X.reshape(shape))


def test_static_reshape_works_out_one_size():
    y = run(lambda b: b.add_reshape_static("r", "x", "y", (6, -1)), {"x": X}, exact=True)
    close(y, X.reshape(6, 4))


def test_rank_preserving_reshape_keeps_sizes_of_zero():
    y = run(lambda b: b.add_rank_preserving_reshape("r", "x", "y", (0, 1, -1)), {"x": X}, exact=True)
    close(y, X.reshape(4, 1, 6))


def test_reshape_to_the_shape_of_another_tensor():
    y = run(lambda b: b.add_reshape_like("r", ["x", "o"], "y"), {"x": X, "o": counting(6, 4)}, exact=True)
    close(y, X.reshape(6, 4))


def test_reshape_to_a_shape_that_is_an_input():
    y = run(lambda b: b.add_reshape_dynamic("r", ["x", "s"], "y"), {"x": X, "s": np.float32([6, 4])}, exact=True)
    close(y, X.reshape(6, 4))


def test_layers_after_a_shape_that_is_an_input():
    def layers(builder):
        builder.add_reshape_dynamic("r", ["x", "s"], "r")
        builder.add_transpose("t", [1, 0], "r", "t")
        builder.add_softmax_nd("soft", "t", "s2", axis=-1)
        builder.add_reduce_sum("sum", "s2", "y", axes=[-1], keepdims=False)

    close(run(layers, {"x": X, "s": np.float32([6, 4])}, exact=True), np.ones(4))


def test_a_shape_that_the_network_puts_together_is_known_beforehand():
    """Converted models with flexible inputs compute the shapes of their reshapes from the input's shape."""

    def layers(builder):
        builder.add_get_shape("shape", "x", "shape")
        builder.add_slice_static("first", "shape", "first", [0], [1], [1], [False], [False])
        builder.add_load_constant_nd("rest", "rest", np.float32([6]), (1,))
        builder.add_concat_nd("target", ["first", "rest"], "target", axis=0)
        builder.add_reshape_dynamic("reshape", ["x", "target"], "flat")
        builder.add_inner_product("fc", np.eye(6), None, 6, 6, False, "flat", "y")

    close(run(layers, {"x": X}, exact=True), X.reshape(4, 6))


def test_expand_dims_and_squeeze():
    y = run(lambda b: b.add_expand_dims("e", "x", "y", axes=[0, -1]), {"x": X}, exact=True)
    close(y, X[None, ..., None])
    wide = X[None, ..., None]
    close(run(lambda b: b.add_squeeze("s", "x", "y", axes=[0]), {"x": wide}, exact=True), X[..., None])
    close(run(lambda b: b.add_squeeze("s", "x", "y", squeeze_all=True), {"x": wide}, exact=True), X)


def test_squeezing_keeps_one_dimension():
    x = np.float32([[5]])
    assert run(lambda b: b.add_squeeze("s", "x", "y", squeeze_all=True), {"x": x}, exact=True).shape == (1,)


@pytest.mark.parametrize("order", [(0, 3, 1, 2), (0, 3, 2, 1), (3, 1, 2, 0), (1, 0, 2, 3)])
def test_permute_moves_sequence_channels_height_and_width(order):
    full = X[None]
    expected = full.transpose(order)[:, None]
    y = run(lambda b: b.add_permute("p", order, "x", "y"), {"x": X})
    close(y, expected[0, 0] if expected.shape[0] == 1 else expected)


def test_transpose():
    close(run(lambda b: b.add_transpose("t", [2, 0, 1], "x", "y"), {"x": X}, exact=True), X.transpose(2, 0, 1))


def test_space_to_depth_and_back_as_in_the_specification():
    deep = counting(8, 1, 2) + 1
    wide = np.float32([[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]])
    shuffled = np.float32([[[1, 3, 2, 4], [5, 7, 6, 8]], [[9, 11, 10, 12], [13, 15, 14, 16]]])

    def add(mode):
        return lambda b: b.add_reorganize_data("r", "x", "y", mode=mode, block_size=2)

    close(run(add("DEPTH_TO_SPACE"), {"x": deep}), wide)
    close(run(add("SPACE_TO_DEPTH"), {"x": wide}), deep)
    close(run(add("PIXEL_SHUFFLE"), {"x": deep}), shuffled)


def test_a_block_that_does_not_divide_is_refused():
    refused(
        "layer 'r': a block of 3",
        {"x": (2, 6, 4)},
        lambda b: b.add_reorganize_data("r", "x", "y", mode="SPACE_TO_DEPTH", block_size=3),
    )


def test_concat_along_the_channels():
    other = counting(1, 2, 3) + 100
    y = run(lambda b: b.add_elementwise("c", ["x", "o"], "y", "CONCAT"), {"x": X, "o": other})
    close(y, np.concatenate([X, other]))


def test_concat_along_the_sequence():
    y = run(lambda b: b.add_elementwise("c", ["x", "o"], "y", "SEQUENCE_CONCAT"), {"x": X, "o": X + 100})
    close(y, np.stack([X, X + 100])[:, None])


def test_concat_along_any_axis_also_interleaved():
    a, b = counting(2, 3), counting(2, 3) + 10
    inputs = {"a": a, "b": b}
    close(
        run(lambda n: n.add_concat_nd("c", ["a", "b"], "y", axis=-1), inputs, exact=True),
        np.concatenate([a, b], 1),
    )
    interleaved = run(lambda n: n.add_concat_nd("c", ["a", "b"], "y", axis=1, interleave=True), inputs, exact=True)
    close(interleaved, np.stack([a, b], 2).reshape(2, 6))


def test_stack_makes_a_new_axis():
    y = run(lambda b: b.add_stack("s", ["x", "o"], "y", axis=-1), {"x": X, "o": -X}, exact=True)
    close(y, np.stack([X, -X], -1))


def test_split_along_the_channels():
    parts = run(lambda b: b.add_split("s", "x", ["p", "q"]), {"x": X}, ("p", "q"))
    for part, expected in zip(parts, np.split(X, 2), strict=True):
        close(part, expected)


def test_split_into_sizes_or_nearly_equal_parts():
    x = counting(2, 5)
    outputs = ("p", "q")
    parts = run(
        lambda b: b.add_split_nd("s", "x", list(outputs), axis=-1, split_sizes=[1, 4]),
        {"x": x},
        outputs,
        exact=True,
    )
    close(parts[0], x[:, :1])
    close(parts[1], x[:, 1:])
    parts = run(
        lambda b: b.add_split_nd("s", "x", list(outputs), axis=1, num_splits=2), {"x": x}, outputs, exact=True
    )
    close(parts[0], x[:, :3])
    close(parts[1], x[:, 3:])


def test_sequence_repeat_repeats_the_whole_sequence():
    x = counting(2, 1, 1, 1, 2)
    y = run(lambda b: b.add_sequence_repeat("s", 2, "x", "y"), {"x": x}, exact=True)
    close(y, np.concatenate([x, x]))


def test_tile_counts_from_the_last_axis():
    close(run(lambda b: b.add_tile("t", "x", "y", [2, 3]), {"x": X}, exact=True), np.tile(X, (2, 3)))


@pytest.mark.parametrize(
    "axis, name, start, end, stride", [(0, "channel", 1, 3, 1), (1, "height", 0, -1, 1), (2, "width", 0, 3, 2)]
)
def test_slice_along_one_axis(axis, name, start, end, stride):
    y = run(lambda b: b.add_slice("s", "x", "y", name, start, end, stride), {"x": X})
    close(y, X[(slice(None),) * axis + (slice(start, end, stride),)])


def test_static_slice_with_masks_and_negative_strides():
    x = counting(5, 5, 5)

    def add(builder, **options):
        builder.add_slice_static(
            "s", "x", "y", begin_ids=[1, 2, 3], end_ids=[3, -3, 2], strides=[2, 2, 2], **options
        )

    masks = {"begin_masks": [True, False, True], "end_masks": [False, True, True]}
    close(run(lambda b: add(b, **masks), {"x": x}, exact=True), x[:3:2, 2::2, ::2])
    squeezed = run(lambda b: add(b, **masks, squeeze_masks=[False, True, False]), {"x": x}, exact=True)
    close(squeezed, x[:3:2, 2, ::2])

    def backwards(builder):
        builder.add_slice_static(
            "s", "x", "y", [-1, 3, 4], [0, 1, 0], [-2, -1, -1], [True, False, False], [True, False, True]
        )

    close(run(backwards, {"x": x}, exact=True), x[::-2, 3:1:-1, 4::-1])


def test_static_slice_that_takes_the_last_element_alone():
    y = run(
        lambda b: b.add_slice_static("s", "x", "y", [-1], [0], [1], [False], [False], squeeze_masks=[True]),
        {"x": counting(5)},
        exact=True,
    )
    close(y, [4])


def test_slice_from_begins_that_are_an_input():
    x = counting(5, 5)

    def layers(builder):
        builder.add_slice_dynamic("s", ["x", "begin"], "y", [4, 5], [1, 2], [False, False], [False, True])

    close(run(layers, {"x": x, "begin": np.float32([1, 0])}, exact=True), x[1:4, 0::2])


@pytest.mark.parametrize("given", [3, 4, 5, 6])
def test_slice_with_masks_that_are_inputs(given):
    x = counting(5, 5, 5)
    columns = {
        "begin": [4, 1, 2],
        "end": [1, 3, 3],
        "strides": [-1, 1, 1],
        "begin_masks": [0, 1, 0],
        "end_masks": [1, 0, 1],
    }
    parameters = {"end_ids": [1, 3, 3], "strides": [-1, 1, 1], "begin_masks": [0, 1, 0], "end_masks": [1, 0, 1]}

    def layers(builder):
        builder.add_slice_dynamic("s", ["x", *list(columns)[: given - 1]], "y", **parameters)

    y = run(layers, {"x": x, **{name: np.float32(values) for name, values in columns.items()}}, exact=True)
    close(y, x[4::-1, :3, 2:])


@pytest.mark.parametrize("squeezed", [(0, 1, 0), (1, 1, 1), (0, 0, 0)])
def test_an_input_may_say_which_dimensions_a_slice_drops(squeezed):
    x = counting(3, 4, 5)
    columns = [[1, 2, -3], [9, 9, 9], [1, 1, 1], [1, 0, 0], [0, 1, 1], squeezed]
    inputs = {f"i{index}": np.float32(column) for index, column in enumerate(columns)}

    def layers(builder):
        builder.add_slice_dynamic("s", ["x", *inputs], "z")
        builder.add_unary("same", "z", "y", "abs")

    expected = {(0, 1, 0): x[:, 2, -3:], (1, 1, 1): x[1, 2, -3:-2], (0, 0, 0): x[:, 2:, -3:]}
    close(run(layers, {"x": x, **inputs}, exact=True), expected[squeezed])


def test_slice_of_a_fixed_size():
    y = run(
        lambda b: b.add_slice_by_size("s", ["x", "begin"], "y", axis=1, size=2),
        {"x": counting(2, 5), "begin": np.float32([2])},
        exact=True,
    )
    close(y, counting(2, 5)[:, 2:4])


def test_crop_by_amounts_or_to_a_reference():
    x = counting(2, 5, 6)
    close(run(lambda b: b.add_crop("c", 1, 2, 2, 0, [0, 0], ["x"], "y"), {"x": x}), x[:, 2:, 1:-2])
    y = run(lambda b: b.add_crop("c", 0, 0, 0, 0, [1, 2], ["x", "o"], "y"), {"x": x, "o": counting(2, 3, 2)})
    close(y, x[:, 1:4, 2:4])


@pytest.mark.parametrize(
    "kind, mode", [("constant", "constant"), ("reflection", "reflect"), ("replication", "edge")]
)
def test_padding(kind, mode):
    x = counting(2, 3, 4)
    options = {"constant_values": -1} if kind == "constant" else {}
    y = run(
        lambda b: b.add_padding("p", 1, 2, 2, 0, value=-1, input_name="x", output_name="y", padding_type=kind),
        {"x": x},
    )
    close(y, np.pad(x, ((0, 0), (2, 0), (1, 2)), mode=mode, **options))


def test_a_reflection_wider_than_the_image_is_reflected_again():
    x = counting(1, 2, 3)
    y = run(
        lambda b: b.add_padding("p", 1, 4, 3, 2, input_name="x", output_name="y", padding_type="reflection"),
        {"x": x},
    )
    close(y, np.pad(x, ((0, 0), (3, 2), (1, 4)), mode="reflect"))


def test_constant_padding_of_any_axis():
    x = counting(2, 3)
    y = run(lambda b: b.add_constant_pad("p", ["x"], "y", 7.0, False, [0, 1, 2, 0]), {"x": x}, exact=True)
    close(y, np.pad(x, ((0, 1), (2, 0)), constant_values=7))
    y = run(lambda b: b.add_constant_pad("p", ["x"], "y", 7.0, True, [0, 4, 5, 0]), {"x": x}, exact=True)
    close(y, np.pad(x, ((0, 2), (2, 0)), constant_values=7))


@pytest.mark.parametrize(("to_size", "amounts"), [(False, [0, 1, 2, 0]), (True, [0, 4, 5, 0])])
def test_constant_padding_by_amounts_that_are_an_input(to_size, amounts):
    x = counting(2, 3)
    y = run(
        lambda b: b.add_constant_pad("p", ["x", "amounts"], "y", 7.0, to_size),
        {"x": x, "amounts": np.float32(amounts)},
        exact=True,
    )
    expected = ((0, 2), (2, 0)) if to_size else ((0, 1), (2, 0))
    close(y, np.pad(x, expected, constant_values=7))


def test_constants():
    values = numbers(3, 1, 2)
    close(run(lambda b: b.add_load_constant("c", "y", values, (3, 1, 2)), {"x": X}), values)
    close(run(lambda b: b.add_load_constant_nd("c", "y", values[0], (1, 2)), {"x": X}, exact=True), values[0])
    close(run(lambda b: b.add_fill_static("f", "y", (2, 3), 1.5), {"x": X}, exact=True), np.full((2, 3), 1.5))
    close(run(lambda b: b.add_fill_like("f", "x", "y", 1.5), {"x": X}, exact=True), np.full(X.shape, 1.5))
    close(
        run(lambda b: b.add_range_static("r", "y", end=2, start=0.5, step=0.5), {"x": X}, exact=True),
        [0.5, 1, 1.5],
    )
    close(run(lambda b: b.add_get_shape("g", "x", "y"), {"x": X}, exact=True), [4, 2, 3])


def test_broadcasting_to_a_shape():
    x = counting(3, 1)
    close(
        run(lambda b: b.add_broadcast_to_static("b", "x", "y", (2, 3, 2)), {"x": x}, exact=True),
        np.broadcast_to(x, (2, 3, 2)),
    )
    y = run(lambda b: b.add_broadcast_to_like("b", ["x", "o"], "y"), {"x": x, "o": counting(3, 4)}, exact=True)
    close(y, np.broadcast_to(x, (3, 4)))


def test_reverse():
    close(run(lambda b: b.add_reverse("r", "x", "y", [True, False, True]), {"x": X}, exact=True), X[::-1, :, ::-1])


def test_reverse_of_sequences_of_different_lengths():
    x = counting(2, 4)
    y = run(
        lambda b: b.add_reverse_sequence("r", ["x", "n"], "y", batch_axis=0, seq_axis=1),
        {"x": x, "n": np.float32([3, 0])},
        exact=True,
    )
    close(y, [[2, 1, 0, 3], [4, 5, 6, 7]])


def test_sliding_windows():
    y = run(lambda b: b.add_sliding_windows("w", "x", "y", 0, 3, 2), {"x": counting(7)}, exact=True)
    close(y, [[0, 1, 2], [2, 3, 4], [4, 5, 6]])


def test_triangles_and_bands():
    x = numbers(2, 3, 4)
    close(run(lambda b: b.add_upper_triangular("t", "x", "y", k=1), {"x": x}, exact=True), np.triu(x, 1))
    close(run(lambda b: b.add_lower_triangular("t", "x", "y", k=-1), {"x": x}, exact=True), np.tril(x, -1))
    y = run(lambda b: b.add_matrix_band_part("t", "x", "y", num_lower=1, num_upper=-1), {"x": x}, exact=True)
    close(y, np.triu(x, -1))


def scalar(builder):
    """z: the sum of all of x, a tensor of one dimension because Core ML has none with less."""
    builder.add_reduce_sum("sum", "x", "z", reduce_all=True, keepdims=False)


def test_a_new_dimension_of_a_scalar_is_its_only_one():
    def expanded(builder):
        scalar(builder)
        builder.add_expand_dims("e", "z", "y", axes=[0])

    def stacked(builder):
        scalar(builder)
        builder.add_unary("negate", "z", "n", "abs")
        builder.add_stack("s", ["z", "n"], "y", axis=0)

    total = X.sum()
    close(run(scalar, {"x": X}, ("z",), exact=True), [total])
    close(run(expanded, {"x": X}, exact=True), [total])
    close(run(stacked, {"x": X}, exact=True), [total, abs(total)])


def test_an_order_of_fewer_axes_than_the_input_has_is_one_of_the_last():
    y = run(lambda b: b.add_transpose("t", [1, 2, 0], "x", "y"), {"x": numbers(1, 2, 3, 4)}, exact=True)
    close(y, numbers(1, 2, 3, 4).transpose(0, 2, 3, 1))


def test_a_broadcast_takes_a_shape_of_any_rank():
    y = run(
        lambda b: b.add_broadcast_to_dynamic("b", ["x", "shape"], "y"),
        {"x": numbers(1, 3), "shape": np.float32([[2], [3]])},
        exact=True,
    )
    close(y, np.repeat(numbers(1, 3), 2, axis=0))
