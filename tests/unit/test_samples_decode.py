"""Decoding: every format and mode, orientation, damaged and hostile files. All images are made here."""

import contextlib
import io
import tempfile
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from pytest_quantguard.errors import SampleError
from pytest_quantguard.samples.decode import ORIENTATION, decode, pillow_silenced
from pytest_quantguard.samples.flatten import flatten

RAMP = np.arange(0, 250, 5, dtype=np.uint8).reshape(5, 10)
COLORS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
LOSSLESS = ["PNG", "BMP", "TIFF"]


@pytest.fixture
def saved(tmp_path):
    """Save an image and decode the file."""

    def save(image, form="PNG", name="image", **parameters):
        image.save(tmp_path / name, form, **parameters)
        return decode(tmp_path / name)

    return save


def decode_bytes(content):
    """Decode a file of this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        return decode(path)


def encoded_image(image, form, **parameters):
    buffer = io.BytesIO()
    image.save(buffer, form, **parameters)
    return buffer.getvalue()


def encoded(form, size=(40, 30)):
    """A file of noise, as bytes."""
    noise = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encoded_image(Image.fromarray(noise), form)


def raw_png(width, height, bit_depth, color_type, rows, *chunks):
    """A PNG file as bytes, for what Pillow does not write."""

    def chunk(kind, content):
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bit_depth, color_type, 0, 0, 0])
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    extra = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", LOSSLESS)
def test_colour_files_are_read_exactly(saved, form):
    image = saved(Image.fromarray(COLORS), form)
    assert image.mode == "RGB"
    assert np.array_equal(image, COLORS)


@pytest.mark.parametrize("form", LOSSLESS)
def test_gray_files_stay_gray(saved, form):
    image = saved(Image.fromarray(RAMP), form)
    assert image.mode == "L"
    assert np.array_equal(image, RAMP)


def test_webp_is_read_exactly(saved):
    assert np.array_equal(saved(Image.fromarray(COLORS), "WEBP", lossless=True), COLORS)


@pytest.mark.parametrize(("mode", "expected"), [("RGB", "RGB"), ("L", "L"), ("CMYK", "RGB")])
def test_jpeg_is_read(saved, mode, expected):
    image = saved(Image.new("RGB", (16, 16), (120, 120, 120)).convert(mode), "JPEG", quality=100)
    assert image.mode == expected
    assert np.abs(np.asarray(image, int) - 120).max() <= 2


def test_cmyk_becomes_rgb(saved):
    assert saved(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF").getpixel((0, 0)) == (255, 0, 0)


def test_ycbcr_becomes_rgb():
    red = flatten(Image.new("RGB", (2, 2), (255, 0, 0)).convert("YCbCr"))
    assert red.mode == "RGB"
    assert np.abs(np.asarray(red, int) - (255, 0, 0)).max() <= 2


def test_lab_becomes_rgb(saved):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.new("RGB", (2, 2), (200, 30, 60)), *profiles, outputMode="LAB")
    assert np.abs(np.asarray(saved(lab, "TIFF"), int) - (200, 30, 60)).max() <= 3


def test_black_and_white_becomes_gray(saved):
    image = saved(Image.fromarray(RAMP > 100), "PNG")
    assert image.mode == "L"
    assert np.array_equal(image, (RAMP > 100) * np.uint8(255))


def test_a_palette_becomes_rgb_even_if_it_is_named_jpg(saved):
    palette = Image.fromarray(COLORS).quantize(16)
    image = saved(palette, "PNG", "photo.jpg")
    assert image.mode == "RGB"
    assert np.array_equal(image, palette.convert("RGB"))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_alpha_shows_black(saved, form):
    parameters = {"lossless": True, "exact": True} if form == "WEBP" else {}
    image = saved(Image.new("RGBA", (2, 2), (200, 100, 50, 128)), form, **parameters)
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (100, 50, 25)
    assert saved(Image.new("RGBA", (2, 2), (200, 100, 50, 0)), form, **parameters).getpixel((1, 1)) == (0, 0, 0)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_gray_with_alpha_stays_gray_over_black(saved, form):
    image = saved(Image.new("LA", (2, 2), (200, 128)), form)
    assert (image.mode, image.getpixel((0, 0))) == ("L", 100)


def test_colours_multiplied_by_alpha_already_are_not_multiplied_again():
    # TIFF 6.0: ExtraSamples (338) 1 says so, where 2 says that they are not.
    content = encoded_image(Image.new("RGBA", (2, 2), (100, 50, 25, 128)), "TIFF")
    entry = (338).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
    assert content.count(entry + b"\2") == 1
    associated = decode_bytes(content.replace(entry + b"\2", entry + b"\1"))
    assert np.abs(np.asarray(associated, int) - (100, 50, 25)).max() <= 1


@pytest.mark.parametrize(
    ("mode", "color", "expected"), [("RGBa", (100, 50, 25, 128), (100, 50, 25)), ("La", (100, 128), 100)]
)
def test_premultiplied_modes_are_colours_over_black(mode, color, expected):
    assert flatten(Image.new(mode, (2, 2), color)).getpixel((0, 0)) == expected


def test_a_transparent_palette_entry_shows_black(saved):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        flat = saved(image, form, transparency=0)
        assert [flat.getpixel((column, 0)) for column in (0, 1)] == [(0, 0, 0), (0, 255, 0)]


def test_a_half_transparent_palette_shows_black(saved):
    image = Image.new("P", (1, 1))
    image.putpalette([200, 100, 50])
    assert saved(image, "PNG", transparency=b"\x80").getpixel((0, 0)) == (100, 50, 25)


@pytest.mark.parametrize(("mode", "color"), [("L", 90), ("RGB", (90, 80, 70)), ("I;16", 40000)])
def test_a_transparent_colour_shows_black(saved, mode, color):
    image = Image.new(mode, (2, 1), color)
    image.putpixel((0, 0), 0 if mode != "RGB" else (1, 2, 3))
    flat = saved(image, "PNG", transparency=color)
    assert flat.getpixel((1, 0)) in (0, (0, 0, 0))
    opaque = saved(image, "PNG")
    assert opaque.getpixel((1, 0)) not in (0, (0, 0, 0))


SIXTEEN = np.array([[0, 128, 129, 257, 32896, 65407, 65535]], np.uint16)
EIGHT = [[0, 0, 1, 1, 128, 255, 255]]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bits_are_scaled_down_and_rounded(saved, form, mode):
    stored = SIXTEEN.astype(">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (7, 1), stored.tobytes())
    flat = saved(image, form)
    assert flat.mode == "L"
    assert np.asarray(flat).tolist() == EIGHT


def test_32_bits_in_a_png_are_16_in_truth():
    # Older Pillow reads a 16-bit PNG as mode `I`, which holds 32 bits.
    assert np.asarray(flatten(Image.fromarray(SIXTEEN.astype(np.int32)))).tolist() == EIGHT


def test_32_bit_integers_are_scaled_from_their_full_range(saved):
    values = np.array([[-5, 0, 2**24, 2**30, 2**31 - 1]], np.int32)
    assert np.asarray(saved(Image.fromarray(values), "TIFF")).tolist() == [[0, 0, 2, 128, 255]]


def tiff_gray(samples, bits, sample_format):
    """A little-endian TIFF file of one gray strip, as bytes, for what Pillow does not write."""
    tags = [(256, samples.shape[1]), (257, samples.shape[0]), (258, bits), (259, 1), (262, 1), (273, 134)]
    tags += [(277, 1), (278, samples.shape[0]), (279, samples.nbytes), (339, sample_format)]
    entries = b"".join(
        tag.to_bytes(2, "little")
        + (4).to_bytes(2, "little")
        + (1).to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, value in tags
    )
    directory = len(tags).to_bytes(2, "little") + entries + bytes(4)
    header = b"II*\0" + (8).to_bytes(4, "little")
    return (header + directory).ljust(134, b"\0") + samples.tobytes()


@pytest.mark.parametrize(
    ("dtype", "bits", "sample_format", "values", "expected"),
    [
        ("<u2", 16, 1, [0, 32896, 65535], [0, 128, 255]),
        ("<i2", 16, 2, [-9, 16384, 32767], [0, 128, 255]),
        ("<u4", 32, 1, [0, 2**31, 2**32 - 1], [0, 128, 255]),
        ("<i4", 32, 2, [-9, 2**30, 2**31 - 1], [0, 128, 255]),
    ],
)
def test_integers_of_tiff_are_scaled_from_the_range_of_their_type(dtype, bits, sample_format, values, expected):
    assert np.asarray(decode_bytes(tiff_gray(np.array([values], dtype), bits, sample_format))).tolist() == [
        expected
    ]


def test_12_bits_of_tiff_are_scaled_from_12_bits():
    # Two pixels of 12 bits in three bytes: 4095 and 2056.
    packed = np.frombuffer(bytes([0xFF, 0xF8, 0x08]), np.uint8)[None]
    file = bytearray(tiff_gray(packed, 12, 1))
    file[10 + 8 : 10 + 12] = (2).to_bytes(4, "little")
    assert np.asarray(decode_bytes(bytes(file))).tolist() == [[255, 128]]


def test_16_bit_colour_is_scaled_down():
    row = b"".join(value.to_bytes(2, "big") for value in (65535, 0x8000, 0x0100))
    assert decode_bytes(raw_png(1, 1, 16, 2, [row])).getpixel((0, 0)) == (255, 128, 1)


@pytest.mark.parametrize(
    ("values", "expected"), [([0.0, 0.5, 1.0], [0, 128, 255]), ([-3.0, 127.5, 300.0], [0, 128, 255])]
)
def test_floats_run_to_1_or_to_255(saved, values, expected):
    assert np.asarray(saved(Image.fromarray(np.array([values], np.float32)), "TIFF")).tolist() == [expected]


def test_floats_that_are_no_numbers_are_refused(saved):
    with pytest.raises(SampleError, match="pixels that are no finite numbers"):
        saved(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), "TIFF")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_is_read(saved, form):
    parameters = {"lossless": True} if form == "WEBP" else {}
    frames = [Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 255, 0))]
    image = saved(frames[0], form, save_all=True, append_images=frames[1:], **parameters)
    assert image.getpixel((4, 4)) == (255, 0, 0)


def test_a_jpeg_of_several_pictures_as_phones_write_them_is_read(saved):
    frames = [Image.new("RGB", (8, 8), color) for color in ((254, 0, 0), (0, 0, 254))]
    image = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.abs(np.asarray(image, int) - (254, 0, 0)).max() <= 2


# How an upright picture [[1, 2], [3, 4], [5, 6]] is stored for each orientation (Exif 2.32, 4.6.4).
STORED = {
    1: [[1, 2], [3, 4], [5, 6]],
    2: [[2, 1], [4, 3], [6, 5]],
    3: [[6, 5], [4, 3], [2, 1]],
    4: [[5, 6], [3, 4], [1, 2]],
    5: [[1, 3, 5], [2, 4, 6]],
    6: [[2, 4, 6], [1, 3, 5]],
    7: [[6, 4, 2], [5, 3, 1]],
    8: [[5, 3, 1], [6, 4, 2]],
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", STORED)
def test_images_are_turned_as_their_orientation_says(saved, form, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    # Blocks of 16 pixels, that JPEG keeps apart.
    stored = np.kron(np.array(STORED[orientation], np.uint8) * 30, np.ones((16, 16), np.uint8))
    parameters = {"lossless": True} if form == "WEBP" else {}
    image = saved(Image.fromarray(np.stack([stored] * 3, -1)), form, exif=exif, **parameters)
    assert np.rint(np.asarray(image)[8::16, 8::16, 0] / 30).tolist() == STORED[1]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(saved, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert np.array_equal(saved(Image.fromarray(COLORS), "PNG", exif=exif), COLORS)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage" * 20])
def test_damaged_metadata_leaves_the_pixels_readable(saved, exif):
    image = saved(Image.new("RGB", (8, 8), (90, 90, 90)), "JPEG", exif=exif)
    assert image.getpixel((4, 4)) == (90, 90, 90)


@pytest.mark.parametrize("name", ["a b (1)=x.png", "no_suffix", "wrong.txt", "cafe\u0301.PNG"])
def test_the_content_counts_and_not_the_name(saved, name):
    assert np.array_equal(saved(Image.fromarray(COLORS), "PNG", name), COLORS)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_truncated_files_are_refused(form):
    content = encoded(form)
    assert decode_bytes(content).size == (40, 30)
    with pytest.raises(SampleError, match="image' is no "):
        decode_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("content", [b"", b"no image at all", b'{"a": 1}', b"\xff\xd8\xff", bytes(1000)])
def test_other_files_are_refused_with_the_formats_that_are_read(content):
    with pytest.raises(SampleError, match=r"is no .*image.*"):
        decode_bytes(content)


@pytest.mark.parametrize("form", ["EPS", "PDF", "ICO", "TGA", "PPM", "PCX", "JPEG2000", "ICNS", "SGI"])
def test_other_formats_never_reach_their_parsers(form, monkeypatch):
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {form}")
    content = encoded(form)
    for other in set(Image.OPEN) - {"JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"}:
        monkeypatch.setitem(Image.OPEN, other, (lambda *_: pytest.fail("parsed"), None))
    with pytest.raises(SampleError, match="JPEG, PNG, BMP, GIF, TIFF and WebP can be"):
        decode_bytes(content)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(SampleError, match="1200 pixels"):
        decode_bytes(encoded("PNG"))


def test_a_small_file_that_claims_many_pixels_is_refused():
    bomb = raw_png(60000, 60000, 8, 0, [b"\0"])
    with pytest.raises(SampleError, match="3600000000 pixels"):
        decode_bytes(bomb)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SampleError, match=r"gone\.jpg' is no readable image: .*No such file"):
        decode(tmp_path / "gone.jpg")


def test_pillows_warnings_do_not_escape(monkeypatch):
    # A large image warns between the limit and twice the limit; see also `filterwarnings = error`.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    content = encoded("PNG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode_bytes(content).size == (40, 30)
    assert not caught
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(content))


def test_threads_restore_the_warning_filters_together():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with pillow_silenced():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    with pillow_silenced():
        thread.start()
        inside.wait(10)
    # The first to enter has left; the other still needs the filter.
    assert list(warnings.filters) != before
    leave.set()
    thread.join()
    assert list(warnings.filters) == before


def test_other_warnings_are_not_held_back():
    with pillow_silenced(), pytest.raises(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


@given(
    st.sampled_from(["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_damaged_files_are_read_or_refused_and_nothing_else(form, changes):
    content = bytearray(encoded(form, (9, 7)))
    for place, value in changes:
        content[place % len(content)] = value
    with contextlib.suppress(SampleError):
        assert decode_bytes(content).mode in ("L", "RGB")
