"""Decoding an image file to 8 bits per channel, upright, over black.

Colour profiles are not applied: values are taken as they are in the file. Of several frames or pages the first is
read.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pytest_quantguard.errors import SampleError
from pytest_quantguard.samples.flatten import flatten

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
"""Pillow's names. Files of other formats never reach their parsers, some of which run other programs."""

# TIFF 6.0 and Exif 2.32, tag Orientation (274): how to turn an image that is not stored as it is seen.
ORIENTATION = 274
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(path: Path | str) -> Image.Image:
    """Read an image file, whatever its suffix. May be called from several threads at once.

    Returns:
        Mode `L` for a gray file, else mode `RGB`; turned as its EXIF orientation says.

    Raises:
        SampleError: the file is no image of a format that is read, is damaged or truncated, or has more pixels
            than Pillow's limit (`PIL.Image.MAX_IMAGE_PIXELS`, doubled, as Pillow does).
    """
    path = Path(path)
    with pillow_silenced():
        try:
            with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
                image.load()
                upright = UPRIGHT.get(_orientation(image))
                flat = flatten(image)
                return flat if upright is None else flat.transpose(upright)
        except UnidentifiedImageError as error:
            raise SampleError(
                f"the sample '{path}' is no image that can be read; JPEG, PNG, BMP, GIF, TIFF and WebP can be."
            ) from error
        # Pillow's parsers answer damaged files with nearly every kind of exception.
        except Exception as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise SampleError(f"the sample '{path}' is no readable image: {reason}.") from error


def _orientation(image: Image.Image) -> int:
    """The orientation 1 to 8; 1 where damaged metadata hides it, for the pixels are fine all the same."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


_silence = threading.Lock()
_filters = contextlib.ExitStack()
_users = 0


@contextlib.contextmanager
def pillow_silenced() -> Iterator[None]:
    """Hold back what Pillow warns of: large images, damaged metadata, palettes with transparency.

    `warnings.catch_warnings` replaces the filters of the whole process, so that two threads would restore each
    other's; here the first to enter sets the filter and the last to leave restores the filters.
    """
    global _users
    with _silence:
        if not _users:
            _filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\b")
        _users += 1
    try:
        yield
    finally:
        with _silence:
            _users -= 1
            if not _users:
                _filters.close()
