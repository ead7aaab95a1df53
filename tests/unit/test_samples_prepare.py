"""From files to images that a model takes, and the check that names every unreadable one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pytest_quantguard.errors import SampleError
from pytest_quantguard.samples.folder import read_sample_folder
from pytest_quantguard.samples.prepare import check_readable, prepare_image


@pytest.fixture
def photo(tmp_path):
    values = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("color", "mode"), [("RGB", "RGB"), ("BGR", "RGB"), ("GRAYSCALE", "L"), ("GRAYSCALE_FLOAT16", "F")]
)
def test_each_colour_of_a_model_has_its_mode(photo, color, mode):
    prepared = prepare_image(photo, 16, 12, color, "center_crop")
    assert (prepared.mode, prepared.size) == (mode, (16, 12))


def test_rgb_and_bgr_inputs_get_the_same_image(photo):
    assert prepare_image(photo, 16, 16, "RGB", "scale_fit") == prepare_image(photo, 16, 16, "BGR", "scale_fit")


def test_colour_becomes_gray_by_luma(tmp_path):
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "red.png")
    assert (
        np.asarray(prepare_image(tmp_path / "red.png", 4, 4, "GRAYSCALE", "center_crop")).tolist()
        == [[76] * 4] * 4
    )


def test_float_gray_of_a_gray_file_has_its_values(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    Image.fromarray(values).save(tmp_path / "gray.png")
    assert np.array_equal(prepare_image(tmp_path / "gray.png", 4, 3, "GRAYSCALE_FLOAT16", "center_crop"), values)


def test_float_gray_of_a_colour_file_is_its_luma_not_rounded(photo):
    rounded = np.asarray(prepare_image(photo, 60, 40, "GRAYSCALE", "center_crop"), float)
    luma = np.asarray(prepare_image(photo, 60, 40, "GRAYSCALE_FLOAT16", "center_crop"))
    assert 0 < np.abs(luma - rounded).max() <= 1


def test_a_gray_file_shows_equal_channels_to_a_colour_model(tmp_path):
    Image.new("L", (4, 4), 77).save(tmp_path / "gray.png")
    assert prepare_image(tmp_path / "gray.png", 2, 2, "RGB", "center_crop").getcolors() == [(4, (77, 77, 77))]


def test_an_image_of_the_right_size_keeps_every_pixel(photo):
    assert np.array_equal(prepare_image(photo, 60, 40, "RGB", "center_crop"), Image.open(photo))


def test_an_unreadable_sample_is_named(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(SampleError, match=r"a\.jpg' is no image that can be read"):
        prepare_image(tmp_path / "a.jpg", 4, 4, "RGB", "center_crop")


def test_many_threads_give_what_one_gives(photo):
    def pixels(_):
        return prepare_image(photo, 31, 17, "RGB", "center_crop").tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(pixels, range(200))) == {pixels(0)}


@pytest.fixture
def folder(tmp_path):
    """A function that makes a folder of one good image and the given number of bad ones."""

    def make(bad):
        Image.new("L", (2, 2)).save(tmp_path / "good.png")
        for number in range(bad):
            (tmp_path / f"bad{number:02}.jpg").write_text("no image")
        return read_sample_folder(tmp_path, None)

    return make


def test_readable_samples_pass_the_check(folder):
    check_readable(folder(0).samples)


def test_one_unreadable_sample_is_named_with_the_reason(folder):
    with pytest.raises(SampleError, match=r"bad00\.jpg' is no image that can be read; JPEG"):
        check_readable(folder(1).samples)


def test_all_unreadable_samples_are_named(folder):
    with pytest.raises(SampleError) as caught:
        check_readable(folder(3).samples)
    assert str(caught.value).startswith(
        "3 of 4 samples are no readable images: 'bad00.jpg', 'bad01.jpg', 'bad02.jpg'; replace them"
    )


def test_of_many_unreadable_samples_ten_are_named_and_the_others_counted(folder):
    with pytest.raises(SampleError) as caught:
        check_readable(folder(23).samples)
    assert "23 of 24 samples" in str(caught.value)
    assert "'bad09.jpg' and 13 more;" in str(caught.value)
    assert "bad10" not in str(caught.value)


@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, 0)])
def test_a_model_without_an_image_size_is_refused(tmp_path, width, height):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(SampleError, match=f"takes images of {width} x {height}, which is no size"):
        prepare_image(tmp_path / "a.png", width, height, "RGB", "center_crop")
