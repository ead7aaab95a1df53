"""From sample files to images that a model takes."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from pytest_quantguard.cores import available_cores
from pytest_quantguard.errors import SampleError
from pytest_quantguard.samples.crop import crop_and_scale
from pytest_quantguard.samples.decode import decode
from pytest_quantguard.samples.naming import first_ten
from pytest_quantguard.samples.sample import Sample

MODES = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "F"}
"""Pillow's mode for each colour of an `ImageFeature`, as coremltools' `MLModel.predict` takes it: for BGR inputs
the engine orders the channels."""


def prepare_image(path: Path | str, width: int, height: int, color: str, option: str) -> Image.Image:
    """Decode an image file and bring it to a model's size and colour. May be called from several threads at once.

    Colour becomes gray by ITU-R BT.601 luma (0.299 red, 0.587 green, 0.114 blue), before scaling.

    Args:
        path: the image file.
        width: of the model's input, in pixels.
        height: of the model's input, in pixels.
        color: `RGB`, `BGR`, `GRAYSCALE` or `GRAYSCALE_FLOAT16` (`ImageFeature.color`).
        option: one of `CROP_AND_SCALE`.

    Returns:
        An image of mode `RGB` (also for BGR), `L`, or `F` with values from 0 to 255.

    Raises:
        SampleError: the file is no readable image, or the model states no size for it.
    """
    if width < 1 or height < 1:
        raise SampleError(f"the model takes images of {width} x {height}, which is no size; export it again.")
    return crop_and_scale(decode(path).convert(MODES[color]), width, height, option)


def check_readable(samples: Iterable[Sample]) -> None:
    """Decode every sample, to the last byte, and keep none.

    That costs as much as decoding always does. So the gate calls it only after `prepare_image` has failed for one
    sample, to name all that would fail.

    Raises:
        SampleError: files are no readable images; the message lists the first ten and counts the others.
    """
    samples = list(samples)
    with ThreadPoolExecutor(available_cores()) as pool:
        errors = list(pool.map(_decoding_error, samples))
    unreadable = [sample.name for sample, error in zip(samples, errors, strict=True) if error]
    if len(unreadable) == 1:
        raise next(error for error in errors if error)
    if unreadable:
        raise SampleError(
            f"{len(unreadable)} of {len(samples)} samples are no readable images: {first_ten(unreadable)}; "
            "replace them or take them out (JPEG, PNG, BMP, GIF, TIFF and WebP can be read)."
        )


def _decoding_error(sample: Sample) -> SampleError | None:
    try:
        decode(sample.path)
    except SampleError as error:
        return error
    return None
