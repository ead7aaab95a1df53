"""Crop-and-scale: the arithmetic of Vision's three options."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pytest_quantguard.samples.crop import crop_and_scale
from pytest_quantguard.samples.sample import CROP_AND_SCALE

sides = st.integers(1, 60)


def image(values, mode="L"):
    return Image.fromarray(np.asarray(values, np.float32 if mode == "F" else np.uint8))


def columns(*values, height):
    """A gray image whose columns have these values."""
    return image(np.tile(np.array(values, np.uint8), (height, 1)))


@pytest.mark.parametrize("option", CROP_AND_SCALE)
@pytest.mark.parametrize("mode", ["L", "RGB", "F"])
def test_an_image_of_the_right_size_is_returned_unchanged(option, mode):
    original = Image.effect_noise((7, 5), 60).convert(mode)
    assert crop_and_scale(original, 7, 5, option) is original


def test_center_crop_keeps_the_middle_square():
    wide = columns(1, 2, 9, 8, 7, 3, 4, height=3)
    assert np.array_equal(crop_and_scale(wide, 3, 3, "center_crop"), columns(9, 8, 7, height=3))
    tall = wide.transpose(Image.Transpose.TRANSPOSE)
    expected = columns(9, 8, 7, height=3).transpose(Image.Transpose.TRANSPOSE)
    assert np.array_equal(crop_and_scale(tall, 3, 3, "center_crop"), expected)


def test_center_crop_of_an_odd_rest_cuts_half_a_pixel_on_both_sides():
    # The box runs from 0.5 to 2.5: each target column is the mean of two halves.
    assert np.array_equal(crop_and_scale(columns(0, 100, 200, height=2), 2, 2, "center_crop"), [[50, 150]] * 2)


def test_center_crop_of_a_mirrored_image_is_the_mirrored_crop():
    original = image(np.random.default_rng(3).integers(0, 256, (37, 53, 3)), "RGB")
    mirrored = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    crop, other = (np.asarray(crop_and_scale(one, 16, 16, "center_crop"), int) for one in (original, mirrored))
    assert np.abs(crop - other[:, ::-1]).max() <= 1


def test_center_crop_fills_a_target_that_is_no_square():
    # 6 x 2 to 2 x 2 parts of aspect 2:1 keeps the middle 4 x 2.
    wide = columns(0, 10, 20, 30, 40, 50, height=2)
    assert np.array_equal(crop_and_scale(wide, 4, 2, "center_crop"), columns(10, 20, 30, 40, height=2))
    # The target is wider than the image: rows are cut.
    tall = wide.transpose(Image.Transpose.TRANSPOSE)
    cut = crop_and_scale(tall, 2, 1, "center_crop")
    assert cut.size == (2, 1)
    # The middle row of a gradient is its mean.
    assert abs(int(np.asarray(cut)[0, 0]) - 25) <= 1


def test_scale_fill_stretches():
    halves = image([[0] * 8 + [200] * 8] * 2)
    stretched = np.asarray(crop_and_scale(halves, 4, 4, "scale_fill"))
    assert stretched.shape == (4, 4)
    assert stretched[:, 0].tolist() == [0] * 4
    assert stretched[:, 3].tolist() == [200] * 4


def test_scale_fit_centres_over_black():
    fitted = np.asarray(crop_and_scale(image(np.full((2, 4), 200)), 8, 8, "scale_fit"))
    assert fitted[:2].max() == 0
    assert fitted[6:].max() == 0
    assert (fitted[2:6] == 200).all()


def test_scale_fit_of_a_colour_image_pads_with_black():
    fitted = np.asarray(crop_and_scale(Image.new("RGB", (2, 4), (9, 8, 7)), 4, 4, "scale_fit"))
    assert (fitted[:, 1:3] == (9, 8, 7)).all()
    assert fitted[:, [0, 3]].max() == 0


def test_scaling_down_counts_every_pixel():
    # Single white pixels would vanish, or double, if the filter looked at two neighbours only.
    values = np.zeros((64, 64), np.uint8)
    values[::8, ::8] = 255
    scaled = np.asarray(crop_and_scale(image(values), 8, 8, "scale_fill"))
    assert scaled.mean() == pytest.approx(255 / 64, abs=1)
    assert scaled.min() > 0


def test_float_gray_is_scaled_without_rounding():
    scaled = np.asarray(crop_and_scale(image([[0.0, 1.0, 2.0, 3.0]] * 4, "F"), 3, 3, "scale_fill"))
    assert scaled.dtype == np.float32
    assert scaled[0, 1] == pytest.approx(1.5)
    assert not np.array_equal(scaled, np.rint(scaled))


@given(sides, sides, sides, sides, st.sampled_from(CROP_AND_SCALE))
@settings(max_examples=300, deadline=None)
def test_any_size_becomes_the_target_and_a_plain_colour_stays(width, height, to_width, to_height, option):
    scaled = crop_and_scale(Image.new("RGB", (width, height), (10, 20, 30)), to_width, to_height, option)
    assert scaled.size == (to_width, to_height)
    colors = {color for _, color in scaled.getcolors()}
    assert colors <= {(10, 20, 30), (0, 0, 0)}
    assert (10, 20, 30) in colors
    if option != "scale_fit":
        assert (0, 0, 0) not in colors


@pytest.mark.parametrize("size", [(10000, 1), (1, 10000), (9999, 2)])
@pytest.mark.parametrize("option", CROP_AND_SCALE)
def test_extremely_long_images_are_scaled(size, option):
    scaled = crop_and_scale(Image.new("L", size, 200), 227, 227, option)
    assert scaled.size == (227, 227)
    assert scaled.getextrema()[1] == 200


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="one of center_crop, scale_fit, scale_fill, not 'squash'"):
        crop_and_scale(Image.new("L", (2, 2)), 1, 1, "squash")
