import numpy as np
import pytest
from network_runner import make_builder, make_engine
from PIL import Image

from pytest_quantguard.errors import PredictionError, UnsupportedModelError
from pytest_quantguard.models.description import ImageFeature
from pytest_quantguard.quiet import quiet
from pytest_quantguard.runtime.portable.images import (
    array_to_pixels,
    image_to_array,
    image_to_pixels,
    pixels_to_image,
)

GRAYSCALE, RGB, BGR, GRAYSCALE_FLOAT16 = 10, 20, 30, 40


def image_network(color_in, color_out, factor=1.0, offset=0.0):
    """Image in, image out: factor * pixel + offset."""
    channels = 3 if color_in in (RGB, BGR) else 1
    builder = make_builder({"x": (channels, 2, 3)})
    builder.add_activation("scale", "LINEAR", "x", "y", [factor, offset])
    with quiet():
        builder.set_pre_processing_parameters(image_input_names=["x"])
    description = builder.spec.description
    for feature, color in ((description.input[0], color_in), (description.output[0], color_out)):
        feature.type.imageType.width, feature.type.imageType.height = 3, 2
        feature.type.imageType.colorSpace = color
    return make_engine(builder)


COLORS = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize("color", [RGB, BGR])
def test_a_colour_image_comes_back_as_rgba(color):
    answer = image_network(color, color).predict({"x": Image.fromarray(COLORS)})["y"]
    assert answer.mode == "RGBA"
    assert answer.size == (3, 2)
    assert np.array_equal(np.asarray(answer)[..., :3], COLORS)
    assert (np.asarray(answer)[..., 3] == 255).all()


@pytest.mark.parametrize("color_in, color_out", [(RGB, BGR), (BGR, RGB)])
def test_each_side_has_its_own_order(color_in, color_out):
    answer = image_network(color_in, color_out).predict({"x": Image.fromarray(COLORS)})["y"]
    assert np.array_equal(np.asarray(answer)[..., :3], COLORS[..., ::-1])


def test_a_gray_image_comes_back_as_gray():
    answer = image_network(GRAYSCALE, GRAYSCALE).predict({"x": Image.fromarray(COLORS[..., 0])})["y"]
    assert answer.mode == "L"
    assert np.array_equal(np.asarray(answer), COLORS[..., 0])


def test_values_are_clamped_and_rounded():
    pixels = np.uint8([[0, 1, 2], [100, 128, 255]])
    engine = image_network(GRAYSCALE, GRAYSCALE, factor=2.0, offset=-2.3)
    expected = np.rint(np.clip(2.0 * pixels.astype(np.float32) - 2.3, 0, 255))
    assert expected.tolist() == [[0, 0, 2], [198, 254, 255]]
    assert np.asarray(engine.predict({"x": Image.fromarray(pixels)})["y"]).tolist() == expected.tolist()
    measured = engine.outputs({"x": Image.fromarray(pixels)}).arrays["y"]
    assert measured.dtype == np.float32
    assert measured[..., 0].tolist() == expected.tolist()


def test_measured_images_are_in_rgb_order():
    measured = image_network(BGR, BGR).outputs({"x": Image.fromarray(COLORS)}).arrays["y"]
    assert measured.shape == (2, 3, 3)
    assert np.array_equal(measured, COLORS)


def test_half_precision_images_take_and_give_floats():
    values = np.float32([[0.1, 1.5, -3.0], [1000.25, 70.0, 0.0]])
    engine = image_network(GRAYSCALE_FLOAT16, GRAYSCALE_FLOAT16)
    answer = engine.predict({"x": Image.fromarray(values)})["y"]
    assert answer.mode == "F"
    assert np.array_equal(np.asarray(answer), values.astype(np.float16).astype(np.float32))


def test_half_precision_images_overflow_without_a_warning():
    engine = image_network(GRAYSCALE_FLOAT16, GRAYSCALE)
    assert np.isinf(engine.outputs({"x": Image.new("F", (3, 2), 1e6)}).arrays["y"]).all()
    engine = image_network(GRAYSCALE, GRAYSCALE_FLOAT16, factor=1e6)
    assert np.isinf(engine.outputs({"x": Image.new("L", (3, 2), 255)}).arrays["y"]).all()


def test_nan_in_an_image_is_measured_but_not_shown():
    engine = image_network(GRAYSCALE_FLOAT16, GRAYSCALE)
    inputs = {"x": Image.fromarray(np.float32([[np.nan, 300, np.inf], [1, 2, 3]]))}
    measured = engine.outputs(inputs).arrays["y"][..., 0]
    assert np.isnan(measured[0, 0])
    assert measured[0, 1:].tolist() == [255, np.inf]
    with pytest.raises(PredictionError, match="output 'y' is no image: it holds NaN"):
        engine.predict(inputs)


def test_an_image_from_a_tensor_with_other_channels_is_refused():
    with pytest.raises(
        UnsupportedModelError, match=r"output 'y': an image from a tensor of shape \(1, 1, 3, 2, 3\)"
    ):
        image_network(RGB, GRAYSCALE)


def test_what_is_transparent_shows_black():
    image = Image.new("RGBA", (1, 1), (200, 100, 50, 0))
    assert image_to_array(image, "RGB").ravel().tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", ["1", "P", "L", "CMYK", "YCbCr", "LA"])
def test_other_8_bit_modes_are_converted(mode):
    white = Image.new("RGB", (1, 1), (255, 255, 255)).convert(mode)
    assert image_to_array(white, "RGB").ravel().tolist() == [255, 255, 255]
    assert image_to_array(white, "GRAYSCALE").ravel().tolist() == [255]


def test_bgr_turns_the_channels():
    assert image_to_array(Image.new("RGB", (1, 1), (1, 2, 3)), "BGR").ravel().tolist() == [3, 2, 1]


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_modes_of_more_than_8_bits_are_refused(mode):
    with pytest.raises(ValueError, match=f"mode {mode} holds no 8-bit values"):
        image_to_array(Image.new(mode, (1, 1)), "RGB")


@pytest.mark.parametrize("color", ["RGB", "GRAYSCALE", "GRAYSCALE_FLOAT16"])
def test_pixels_survive_the_way_through_an_image(color):
    feature = ImageFeature("y", 3, 2, color)
    values = np.random.default_rng(1).integers(0, 256, (3 if color == "RGB" else 1, 2, 3)).astype(np.float32)
    pixels = array_to_pixels(values, feature)
    assert np.array_equal(image_to_pixels(pixels_to_image(pixels, feature)), pixels)
