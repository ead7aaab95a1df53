import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers, run

from pytest_quantguard.errors import UnsupportedModelError

X = numbers(2, 4, 5)


def sampled(x, rows, columns):
    """Reference: bilinear interpolation at the grid of rows and columns."""

    def along(values, grid):
        below = np.floor(grid).astype(int)
        above = np.minimum(below + 1, values.shape[-1] - 1)
        return values[..., below] + (values[..., above] - values[..., below]) * (grid - below)

    return along(along(x.swapaxes(1, 2), np.asarray(rows)).swapaxes(1, 2), np.asarray(columns))


def test_nearest_neighbours_repeat():
    y = run(lambda b: b.add_upsample("u", 2, 3, "x", "y", mode="NN"), {"x": X})
    close(y, X.repeat(2, axis=1).repeat(3, axis=2))


def test_bilinear_upsampling_starts_at_the_first_pixel_by_default():
    x = np.float32([[[1, 2, 3]]])
    y = run(lambda b: b.add_upsample("u", 2, 3, "x", "y", mode="BILINEAR"), {"x": x})
    row = [1, 4 / 3, 5 / 3, 2, 7 / 3, 8 / 3, 3, 3, 3]
    close(y, [[row, row]])


def test_bilinear_upsampling_with_aligned_corners():
    def layers(builder):
        builder.add_upsample("u", 2, 3, "x", "y", mode="BILINEAR", linear_upsample_mode="ALIGN_CORNERS_TRUE")

    close(run(layers, {"x": X}), sampled(X, np.linspace(0, 3, 8), np.linspace(0, 4, 15)))


def test_bilinear_upsampling_without_aligned_corners_by_a_fraction():
    def layers(builder):
        builder.add_upsample("u", 1.5, 1.1, "x", "y", mode="BILINEAR", linear_upsample_mode="ALIGN_CORNERS_FALSE")

    rows = ((np.arange(6) + 0.5) * 4 / 6 - 0.5).clip(0, 3)
    columns = ((np.arange(5) + 0.5) * 5 / 5 - 0.5).clip(0, 4)
    close(run(layers, {"x": X}), sampled(X, rows, columns))


@pytest.mark.parametrize(
    "mode, grid",
    [
        ("STRICT_ALIGN_ENDPOINTS_MODE", lambda size, n: np.linspace(0, size - 1, n)),
        ("ALIGN_ENDPOINTS_MODE", lambda size, n: np.linspace(0, size - 1, n) if n > 1 else [(size - 1) / 2]),
        ("UPSAMPLE_MODE", lambda size, n: np.linspace(0, size - size / n, n).clip(0, size - 1)),
        ("ROI_ALIGN_MODE", lambda size, n: (np.arange(n) + 0.5) * max(1, size - 1) / n),
    ],
)
@pytest.mark.parametrize("target", [(7, 3), (1, 1), (4, 10)])
def test_resize_bilinear(mode, grid, target):
    y = run(lambda b: b.add_resize_bilinear("r", "x", "y", *target, mode=mode), {"x": X})
    close(y, sampled(X, grid(4, target[0]), grid(5, target[1])))


def test_resizing_to_the_same_size_changes_nothing():
    close(run(lambda b: b.add_resize_bilinear("r", "x", "y", 4, 5), {"x": X}), X)


def test_a_fractional_factor_with_nearest_neighbours_is_refused():
    builder = make_builder({"x": X})
    builder.add_upsample("u", 2, 2, "x", "y", mode="NN")
    params = builder.nn_spec.layers[0].upsample
    del params.scalingFactor[:]
    params.fractionalScalingFactor.extend([1.5, 1.5])
    with pytest.raises(UnsupportedModelError, match="layer 'u': a fractional factor"):
        make_engine(builder)


BOXES = np.float32([[0.5, 1, 2.5, 3], [0, 0, 3, 4]])


@pytest.mark.parametrize("order", ["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST"])
@pytest.mark.parametrize("normalized", [False, True])
def test_crop_and_resize_of_boxes(order, normalized):
    boxes = BOXES / [3, 4, 3, 4] if normalized else BOXES
    boxes = boxes if order == "CORNERS_HEIGHT_FIRST" else boxes[:, [1, 0, 3, 2]]
    inputs = {"x": X[None, None], "boxes": boxes.astype(np.float32).reshape(2, 1, 4, 1, 1)}
    y = run(
        lambda b: b.add_crop_resize(
            "c",
            ["x", "boxes"],
            "y",
            3,
            4,
            mode="STRICT_ALIGN_ENDPOINTS_MODE",
            normalized_roi=normalized,
            box_indices_mode=order,
        ),
        inputs,
        exact=True,
    )
    for part, (top, left, bottom, right) in zip(y, BOXES, strict=True):
        close(part[0], sampled(X, np.linspace(top, bottom, 3), np.linspace(left, right, 4)))


def test_boxes_may_name_their_image():
    images = numbers(1, 2, 2, 4, 5)
    boxes = np.concatenate([np.float32([[1], [0]]), BOXES], axis=1).reshape(2, 1, 5, 1, 1)
    y = run(
        lambda b: b.add_crop_resize("c", ["x", "boxes"], "y", 1, 4, mode="ALIGN_ENDPOINTS_MODE"),
        {"x": images, "boxes": boxes},
        exact=True,
    )
    assert y.shape == (2, 1, 2, 1, 4)
    for part, image, (top, left, bottom, right) in zip(y, images[0, ::-1], BOXES, strict=True):
        close(part[0], sampled(image, [(top + bottom) / 2], np.linspace(left, right, 4)))
