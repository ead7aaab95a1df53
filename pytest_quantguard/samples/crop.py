"""Crop-and-scale as Vision does it before a model sees an image (`VNImageCropAndScaleOption`)."""

from PIL import Image

from pytest_quantguard.samples.sample import CROP_AND_SCALE

Size = tuple[int, int]
"""Width and height in pixels."""


def crop_and_scale(image: Image.Image, width: int, height: int, option: str) -> Image.Image:
    """Bring an image to a model's size.

    - `center_crop`: scale until the image just covers the target, keep the middle.
    - `scale_fit`: scale until the image just fits inside the target, fill the rest with black, image centred.
    - `scale_fill`: stretch to the target; the aspect ratio is lost.

    Scaling is bilinear; when it shrinks, every source pixel counts (Pillow's BILINEAR is antialiased).

    Args:
        image: of mode `L`, `RGB` or `F`.
        width: of the target, in pixels.
        height: of the target, in pixels.
        option: one of `CROP_AND_SCALE`.

    Returns:
        An image of the same mode; the very same image where it has the target's size already.
    """
    if option not in CROP_AND_SCALE:
        raise ValueError(f"crop_and_scale is one of {', '.join(CROP_AND_SCALE)}, not {option!r}.")
    target = (width, height)
    if image.size == target:
        return image
    if option == "center_crop":
        return image.resize(target, Image.Resampling.BILINEAR, box=_middle(image.size, target))
    if option == "scale_fit":
        return _fit(image, target)
    return image.resize(target, Image.Resampling.BILINEAR)


def _middle(size: Size, target: Size) -> tuple[float, float, float, float]:
    """The largest box with the target's aspect ratio in the middle of an image: left, top, right, bottom.

    The edges are not rounded to pixels: rounding would move or stretch small images.
    """
    scale = min(size[0] / target[0], size[1] / target[1])
    # A box may not pass the edge, not even by a rounding error.
    width, height = min(scale * target[0], size[0]), min(scale * target[1], size[1])
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _fit(image: Image.Image, target: Size) -> Image.Image:
    scale = min(target[0] / image.width, target[1] / image.height)
    # An extremely long image keeps at least one row of pixels.
    width = min(max(round(image.width * scale), 1), target[0])
    height = min(max(round(image.height * scale), 1), target[1])
    canvas = Image.new(image.mode, target)
    canvas.paste(
        image.resize((width, height), Image.Resampling.BILINEAR),
        ((target[0] - width) // 2, (target[1] - height) // 2),
    )
    return canvas
