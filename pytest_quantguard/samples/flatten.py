"""From any Pillow mode to 8-bit gray or RGB, without transparency."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRAY = frozenset({"1", "L", "LA", "La"})
# Baseline TIFF tags BitsPerSample and SampleFormat (2 means signed).
BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339


def flatten(image: Image.Image) -> Image.Image:
    """Convert a decoded image of any mode to mode `L` if the file is gray, else `RGB`.

    What is transparent shows black behind it. More than 8 bits per channel are scaled down, not cut off:
    integers from the full range of their type, floats from 0 to 1 (or from 0 to 255 if any is above 1).
    """
    if image.mode[0] in "IF":
        return _eight_bits(image)
    if image.has_transparency_data:
        return _over_black(image)
    if image.mode in GRAY:
        return image.convert("L")
    return image.convert("RGB")


def _over_black(image: Image.Image) -> Image.Image:
    gray = image.mode in GRAY
    if image.mode in ("La", "RGBa"):
        # Multiplied by alpha already: over black these are the colours.
        return image.getchannel(0) if gray else Image.merge("RGB", image.split()[:3])
    with_alpha = image.convert("LA" if gray else "RGBA")
    flat = Image.new("L" if gray else "RGB", image.size)
    flat.paste(with_alpha.convert(flat.mode), mask=with_alpha.getchannel("A"))
    return flat


def _eight_bits(image: Image.Image) -> Image.Image:
    stored = np.asarray(image)
    if image.mode == "F":
        return _scaled(stored, _float_range(stored))
    # In Pillow, PNG holds 16 bits whatever the mode is; only TIFF has other widths.
    tags = getattr(image, "tag_v2", {})
    bits = int(tags.get(BITS_PER_SAMPLE, (16,))[0])
    signed = tags.get(SAMPLE_FORMAT, (1,))[0] == 2
    if bits == 32 and not signed:
        stored = stored.view(np.uint32)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        stored = np.where(stored == transparent, 0, stored)
    return _scaled(stored, 2.0 ** (bits - signed) - 1)


def _float_range(values: NDArray[np.float32]) -> float:
    if not np.isfinite(values).all():
        raise ValueError("it holds pixels that are no finite numbers")
    return 255.0 if values.max() > 1 else 1.0


def _scaled(values: NDArray[np.generic], full: float) -> Image.Image:
    """Values 0 to `full` as 8-bit gray, rounded to the nearest."""
    eight = np.rint(values.astype(np.float32) * np.float32(255 / full)).clip(0, 255)
    return Image.fromarray(eight.astype(np.uint8))
