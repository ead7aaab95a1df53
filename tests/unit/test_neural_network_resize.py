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


HEIGHT, WIDTH = 4, 5
BOXES = np.float32([[0.5, 1, 2.5, 3], [0, 0, 3, 4]])
"""Top, left, bottom, right."""


def box_grid(mode, start, end, count):
    """Reference: `SamplingMode` with the box as the interval, written with numpy's linspace as it is there."""
    extent = end - start
    if mode == "STRICT_ALIGN_ENDPOINTS_MODE" or (mode == "ALIGN_ENDPOINTS_MODE" and count > 1):
        return np.linspace(start, end, count)
    if mode == "ALIGN_ENDPOINTS_MODE":
        return np.array([(start + end) / 2])
    if mode == "UPSAMPLE_MODE":
        size = extent + 1
        return np.minimum(end, np.linspace(start, start + size - size / count, count))
    spacing = max(1, extent) / count
    return np.linspace(start + 0.5 * spacing, start + (count - 0.5) * spacing, count)


def cropped(image, boxes, rows, columns, mode="STRICT_ALIGN_ENDPOINTS_MODE"):
    parts = []
    for top, left, bottom, right in boxes:
        vertical = box_grid(mode, top, bottom, rows).clip(0, HEIGHT - 1)
        horizontal = box_grid(mode, left, right, columns).clip(0, WIDTH - 1)
        parts.append(sampled(image, vertical, horizontal))
    return np.stack(parts)


def crop(boxes, rows, columns, image=X[None, None], **options):
    return run(
        lambda b: b.add_crop_resize("c", ["x", "boxes"], "y", rows, columns, **options),
        {"x": image, "boxes": boxes.astype(np.float32).reshape(len(boxes), 1, -1, 1, 1)},
        exact=True,
    )


@pytest.mark.parametrize(
    "mode", ["STRICT_ALIGN_ENDPOINTS_MODE", "ALIGN_ENDPOINTS_MODE", "UPSAMPLE_MODE", "ROI_ALIGN_MODE"]
)
@pytest.mark.parametrize("size", [(3, 4), (1, 1)])
def test_crop_and_resize_in_every_sampling_mode(mode, size):
    y = crop(BOXES, *size, mode=mode)
    close(y[:, 0], cropped(X, BOXES, *size, mode))


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(
    "form",
    ["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"],
)
def test_boxes_are_given_in_four_forms(form, normalized):
    boxes = BOXES / [HEIGHT - 1, WIDTH - 1, HEIGHT - 1, WIDTH - 1] if normalized else BOXES
    if form.startswith("CENTER"):
        start, end = boxes[:, :2], boxes[:, 2:]
        boxes = np.concatenate([(start + end) / 2, end - start], axis=1)
    if form.endswith("WIDTH_FIRST"):
        boxes = boxes[:, [1, 0, 3, 2]]
    y = crop(boxes, 3, 4, normalized_roi=normalized, box_indices_mode=form)
    close(y[:, 0], cropped(X, BOXES, 3, 4))


def test_boxes_are_multiplied_by_the_spatial_scale():
    close(crop(4 * BOXES, 3, 4, spatial_scale=0.25)[:, 0], cropped(X, BOXES, 3, 4))


def test_boxes_may_name_their_image():
    images = numbers(1, 2, 2, HEIGHT, WIDTH)
    boxes = np.concatenate([np.float32([[1], [0]]), BOXES], axis=1)
    y = crop(boxes, 1, 4, images, mode="ALIGN_ENDPOINTS_MODE")
    assert y.shape == (2, 1, 2, 1, 4)
    for part, image, box in zip(y, images[0, ::-1], BOXES, strict=True):
        close(part[0], cropped(image, [box], 1, 4, "ALIGN_ENDPOINTS_MODE")[0])


def test_other_boxes_are_cut_out_of_every_image():
    images = numbers(1, 3, 2, HEIGHT, WIDTH)
    y = crop(BOXES, 3, 4, images)
    assert y.shape == (2, 3, 2, 3, 4)
    for index, image in enumerate(images[0]):
        close(y[:, index], cropped(image, BOXES, 3, 4))


@pytest.mark.parametrize(
    "add",
    [
        lambda b: b.add_resize_bilinear("r", "x", "y", 2**40, 2),
        lambda b: b.add_upsample("r", 2**40, 1, "x", "y", mode="BILINEAR"),
        lambda b: b.add_padding("r", 0, 0, 2**40, 0, input_name="x", output_name="y", padding_type="reflection"),
        lambda b: b.add_crop_resize("r", ["x", "x"], "y", 2**40, 2),
    ],
)
def test_sizes_that_would_fill_the_memory_are_refused(add):
    builder = make_builder({"x": (1, 1, 4, 1, 1)}, exact=True)
    add(builder)
    with pytest.raises(UnsupportedModelError, match=r"layer 'r': a height or width of \d{13}"):
        make_engine(builder)
