import numpy as np
import pytest
from network_runner import close, counting, numbers, run
from numpy.lib.stride_tricks import sliding_window_view


def windows(x, kernel, stride):
    return sliding_window_view(x, kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]


def pool(kernel, stride, kind, padding="VALID", exclude=True, **options):
    def layers(builder):
        builder.add_pooling("pool", *kernel, *stride, kind, padding, "x", "y", exclude_pad_area=exclude, **options)

    return layers


AMOUNTS = {"padding_top": 1, "padding_bottom": 0, "padding_left": 1, "padding_right": 2}


def padded(x, edges, fill):
    return np.pad(x, ((0, 0), *edges), constant_values=fill)


def test_max_pooling_never_answers_with_the_padding():
    x = -1 - np.abs(numbers(2, 5, 6))
    y = run(pool((3, 3), (2, 2), "MAX", **AMOUNTS), {"x": x})
    close(y, windows(padded(x, ((1, 0), (1, 2)), -np.inf), (3, 3), (2, 2)).max((-1, -2)))


def test_average_pooling_leaves_the_padding_out_if_asked():
    x = numbers(2, 5, 6)
    y = run(pool((3, 3), (2, 2), "AVERAGE", **AMOUNTS), {"x": x})
    close(y, np.nanmean(windows(padded(x, ((1, 0), (1, 2)), np.nan), (3, 3), (2, 2)), axis=(-1, -2)))


def test_average_pooling_counts_the_padding_otherwise():
    x = numbers(2, 5, 6)
    y = run(pool((3, 3), (2, 2), "AVERAGE", exclude=False, **AMOUNTS), {"x": x})
    close(y, windows(padded(x, ((1, 0), (1, 2)), 0), (3, 3), (2, 2)).mean((-1, -2)))


def test_l2_pooling_is_the_root_of_the_sum_of_squares():
    x = numbers(2, 5, 6)
    y = run(pool((2, 3), (1, 2), "L2"), {"x": x})
    close(y, np.sqrt((windows(x, (2, 3), (1, 2)) ** 2).sum((-1, -2))))


@pytest.mark.parametrize("mode, edges", [("BOTTOM_RIGHT_HEAVY", (0, 1)), ("TOP_LEFT_HEAVY", (1, 0))])
@pytest.mark.parametrize("kind, reduce, fill", [("MAX", np.max, -np.inf), ("AVERAGE", np.nanmean, np.nan)])
def test_same_padding(mode, edges, kind, reduce, fill):
    x = numbers(1, 6, 6)
    y = run(pool((3, 3), (2, 2), kind, "SAME", same_padding_asymmetry_mode=mode), {"x": x})
    close(y, reduce(windows(padded(x, (edges, edges), fill), (3, 3), (2, 2)), axis=(-1, -2)))


def test_include_last_pixel_adds_a_window_at_the_end():
    x = counting(1, 6, 7)
    y = run(pool((3, 3), (2, 2), "MAX", "INCLUDE_LAST_PIXEL"), {"x": x})
    close(y, windows(padded(x, ((0, 1), (0, 0)), -np.inf), (3, 3), (2, 2)).max((-1, -2)))


def test_include_last_pixel_drops_a_window_that_lies_in_the_padding():
    x = counting(1, 4, 4)
    # ceil((4 + 2 - 2) / 2) + 1 = 3 windows; with size 5 the fourth would start in the padding.
    assert run(
        pool((2, 2), (2, 2), "MAX", "INCLUDE_LAST_PIXEL", padding_top=1, padding_bottom=1), {"x": x}
    ).shape == (
        1,
        3,
        2,
    )
    y = run(
        pool((2, 2), (2, 2), "MAX", "INCLUDE_LAST_PIXEL", padding_top=1, padding_bottom=1),
        {"x": counting(1, 5, 4)},
    )
    assert y.shape == (1, 3, 2)


def test_averages_at_the_last_pixel_count_the_padding_but_not_what_lies_beyond():
    x = np.ones((1, 4, 4), np.float32)
    y = run(
        pool(
            (3, 3),
            (2, 2),
            "AVERAGE",
            "INCLUDE_LAST_PIXEL",
            exclude=False,
            padding_top=1,
            padding_bottom=1,
            padding_left=1,
            padding_right=1,
        ),
        {"x": x},
    )
    # Rows of a window that hold pixels / rows that count: 2 of 3, 3 of 3 and 1 of 2.
    share = np.array([2 / 3, 1, 1 / 2])
    close(y, np.outer(share, share)[None])


@pytest.mark.parametrize(
    "kind, reduce",
    [
        ("MAX", lambda x: x.max((-1, -2))),
        ("AVERAGE", lambda x: x.mean((-1, -2))),
        ("L2", lambda x: np.sqrt((x**2).sum((-1, -2)))),
    ],
)
def test_global_pooling_ignores_the_kernel(kind, reduce):
    x = numbers(3, 4, 5)
    y = run(pool((2, 2), (1, 1), kind, is_global=True), {"x": x})
    close(y, reduce(x)[:, None, None])


WIDE = {"padding_top": 2, "padding_bottom": 1, "padding_left": 0, "padding_right": 3}


@pytest.mark.parametrize(
    ("kind", "exclude", "fill", "reduce"),
    [
        ("MAX", True, np.finfo(np.float32).min, np.max),
        ("AVERAGE", False, 0, np.mean),
        ("L2", True, 0, lambda x, axis: np.sqrt((x**2).sum(axis))),
    ],
)
def test_a_padding_may_be_wider_than_the_kernel(kind, exclude, fill, reduce):
    x = numbers(2, 4, 5)
    y = run(pool((2, 2), (2, 1), kind, exclude=exclude, **WIDE), {"x": x})
    close(y, reduce(windows(padded(x, ((2, 1), (0, 3)), fill), (2, 2), (2, 1)), axis=(-1, -2)))


def test_averages_leave_a_wide_padding_out_and_are_zero_where_there_is_nothing_else():
    x = numbers(2, 4, 5)
    y = run(pool((2, 2), (2, 1), "AVERAGE", **WIDE), {"x": x})
    wide = windows(padded(x, ((2, 1), (0, 3)), 0), (2, 2), (2, 1)).sum((-1, -2))
    count = windows(padded(np.ones_like(x), ((2, 1), (0, 3)), 0), (2, 2), (2, 1)).sum((-1, -2))
    close(y, wide / np.maximum(count, 1))


@pytest.mark.parametrize("kind", ["MAX", "AVERAGE"])
def test_three_dimensional_pooling_with_a_wide_padding(kind):
    x = numbers(1, 2, 4, 4, 4)

    def layers(builder):
        builder.add_pooling3d("pool", "x", "y", kind, 1, 2, 2, 1, 2, 2, "CUSTOM", 1, 0, 0, 0, 0, 2, False)

    fill = 0 if kind == "AVERAGE" else np.finfo(np.float32).min
    wide = np.pad(x[0], ((0, 0), (1, 0), (0, 0), (0, 2)), constant_values=fill)
    views = sliding_window_view(wide, (1, 2, 2), axis=(1, 2, 3))[:, :, ::2, ::2]
    reduce = np.mean if kind == "AVERAGE" else np.max
    close(run(layers, {"x": x}, exact=True), reduce(views, axis=(-1, -2, -3))[None])


@pytest.mark.parametrize("exclude, fill", [(True, np.nan), (False, 0)])
def test_three_dimensional_average_pooling(exclude, fill):
    x = numbers(1, 2, 4, 4, 4)

    def layers(builder):
        builder.add_pooling3d("pool", "x", "y", "AVERAGE", 2, 2, 2, 2, 2, 2, "CUSTOM", 1, 1, 0, 0, 1, 1, exclude)

    wide = np.pad(x[0], ((0, 0), (1, 1), (0, 0), (1, 1)), constant_values=fill)
    views = sliding_window_view(wide, (2, 2, 2), axis=(1, 2, 3))[:, ::2, ::2, ::2]
    close(run(layers, {"x": x}, exact=True), np.nanmean(views, axis=(-1, -2, -3))[None])


def test_global_pooling_in_three_dimensions():
    x = numbers(1, 2, 3, 4, 5)
    y = run(lambda b: b.add_global_pooling3d("pool", "x", "y", "MAX"), {"x": x}, exact=True)
    close(y, x.max((-1, -2, -3), keepdims=True))
