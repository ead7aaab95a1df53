"""Between PIL images and the arrays that a network computes with."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pytest_quantguard.models.description import ImageFeature
from pytest_quantguard.samples.flatten import flatten

GRAY = ("GRAYSCALE", "GRAYSCALE_FLOAT16")


def image_to_array(image: Image.Image, color: str) -> NDArray[np.float32]:
    """Pixels as float32 of shape (1, channels, height, width), channels in the order of the colour layout.

    A colour layout takes any 8-bit mode as RGB, `GRAYSCALE` as L, with black behind what is transparent.
    `GRAYSCALE_FLOAT16` takes mode F and rounds to half precision, as coremltools does.

    Args:
        image: the picture.
        color: `RGB`, `BGR`, `GRAYSCALE` or `GRAYSCALE_FLOAT16`.

    Raises:
        ValueError: the mode has more than 8 bits per channel and the layout has not.
    """
    if color == "GRAYSCALE_FLOAT16":
        values = image if image.mode == "F" else flatten(image).convert("F")
        return np.asarray(values).astype(np.float16).astype(np.float32)[None, None]
    if image.mode[0] in "IF":
        raise ValueError(f"mode {image.mode} holds no 8-bit values; convert the image to RGB or L first")
    if color == "GRAYSCALE":
        return np.asarray(flatten(image).convert("L"), np.float32)[None, None]
    pixels = np.asarray(image if image.mode == "RGB" else flatten(image).convert("RGB"))
    if color == "BGR":
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def array_to_pixels(values: NDArray[np.float32], feature: ImageFeature) -> NDArray[np.float32]:
    """A network's image, (channels, height, width), as float32 (height, width, channels) in RGB order.

    The values are those that the image holds: whole numbers from 0 to 255. NaN and infinity stay.
    """
    pixels = values.transpose(1, 2, 0)
    if feature.color == "BGR":
        pixels = pixels[..., ::-1]
    if feature.color == "GRAYSCALE_FLOAT16":
        return pixels.astype(np.float16).astype(np.float32)
    # Apple does not say how it rounds to 8 bits. Nearest is what its vImage conversions do, and it adds no bias
    # as cutting off would; how exact halves are rounded hardly ever matters.
    rounded = np.rint(pixels.clip(0, 255))
    return np.where(np.isfinite(pixels), rounded, pixels).astype(np.float32)


def pixels_to_image(pixels: NDArray[np.float32], feature: ImageFeature) -> Image.Image:
    """Pixels of `array_to_pixels` as the PIL image that `MLModel.predict` gives: RGBA, L, or F for half floats.

    Raises:
        ValueError: a pixel is NaN or infinite.
    """
    if not np.isfinite(pixels).all():
        raise ValueError("it holds NaN or infinite values, which no image can show")
    if feature.color == "GRAYSCALE_FLOAT16":
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    eight = pixels.astype(np.uint8)
    if feature.color == "GRAYSCALE":
        return Image.fromarray(np.ascontiguousarray(eight[..., 0]))
    image = Image.fromarray(np.ascontiguousarray(eight))
    # Apple's colour images come with an alpha channel.
    image.putalpha(255)
    return image


def image_to_pixels(image: Image.Image) -> NDArray[np.float32]:
    """A PIL image that a model gave, as float32 (height, width, channels): three channels or one."""
    if image.mode == "F":
        return np.asarray(image)[..., None]
    if image.mode == "L":
        return np.asarray(image, np.float32)[..., None]
    return np.asarray(image.convert("RGB"), np.float32)
