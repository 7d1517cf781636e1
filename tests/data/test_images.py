"""Every kind of odd image has a defined result."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from vtclip.data.images import PictureError, is_picture, open_picture

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


@pytest.fixture
def save(tmp_path):
    def run(picture, name, **arguments):
        picture.save(tmp_path / name, **arguments)
        return tmp_path / name

    return run


def pixels(path):
    picture = open_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


UNREADABLE = {
    "truncated": lambda jpeg: jpeg[:-200],
    "the file is empty": lambda jpeg: b"",
    "cannot read it as an image": lambda jpeg: b"<html>",
}


@pytest.mark.parametrize("reason", UNREADABLE)
def test_a_file_that_is_no_whole_image_is_refused(save, reason):
    path = save(PICTURE, "a.jpg")
    path.write_bytes(UNREADABLE[reason](path.read_bytes()))
    with pytest.raises(PictureError, match=reason):
        open_picture(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PictureError, match="no such file"):
        open_picture(tmp_path / "a.jpg")


def test_a_wrong_suffix_does_not_matter(save):
    path = save(PICTURE, "a.jpg", format="PNG")
    np.testing.assert_array_equal(pixels(path), PIXELS)


def test_cmyk_becomes_the_rgb_that_pillow_makes_of_it(save):
    path = save(PICTURE.convert("CMYK"), "a.jpg", quality=95)
    with Image.open(path) as picture:
        assert picture.mode == "CMYK"
        np.testing.assert_array_equal(pixels(path), np.asarray(picture.convert("RGB")))


def test_grey_is_three_times_the_same(save):
    found = pixels(save(PICTURE.convert("L"), "a.png"))
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize(("name", "step"), [("a.png", 109), ("a.pgm", 50)])
def test_sixteen_bits_are_scaled_to_eight(save, name, step):
    grey = (np.arange(600, dtype=np.uint16) * step).reshape(20, 30)
    found = pixels(save(Image.fromarray(grey), name))
    np.testing.assert_allclose(found[..., 0], grey // 256, atol=1)


RAMP = np.linspace(0, 255, 600).reshape(20, 30)


@pytest.mark.parametrize(
    "values",
    [
        (RAMP / 255).astype(np.float32),
        (RAMP * 1e30 - 1e32).astype(np.float32),
        (RAMP * 5000).astype(np.int32),
        (RAMP * -5000).astype(np.int32)[::-1, ::-1],
        (RAMP * (2**24)).astype(np.uint32),  # the upper half has the sign's bit
        (RAMP * 100 - 1000).astype(np.int16),
    ],
    ids=["0 .. 1", "huge", "32 bits", "below zero", "32 bits without a sign", "16 with a sign"],
)
def test_floats_integers_of_32_bits_and_signed_ones_are_scaled_by_their_own_range(tmp_path, values):
    write_tiff(tmp_path / "a.tif", values)
    np.testing.assert_allclose(pixels(tmp_path / "a.tif")[..., 0], RAMP, atol=1)


def write_tiff(path, values):
    """A TIFF of one strip; Pillow itself writes neither int16 nor uint32."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits, data = values.dtype.itemsize * 8, np.ascontiguousarray(values).tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height,
            279: len(data), 339: kind}  # fmt: skip
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())
    )
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data)


def test_a_float_picture_of_one_value_is_black(save):
    assert not pixels(save(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "a.tif")).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_picture_with_nan_or_infinity_is_refused(save, value):
    values = RAMP.astype(np.float32)
    values[3, 4] = value
    path = save(Image.fromarray(values), "a.tif")
    with pytest.raises(PictureError, match="NaN or infinite"):
        open_picture(path)


def test_the_transparency_of_a_palette_is_dropped(save):
    palette = PICTURE.convert("P")
    path = save(palette, "a.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(pixels(path), np.asarray(palette.convert("RGB")))


def test_of_an_animation_the_first_frame_is_taken(save):
    other = Image.new("RGB", PICTURE.size)
    path = save(PICTURE, "a.gif", save_all=True, append_images=[other])
    first = Image.open(io.BytesIO(path.read_bytes()))
    np.testing.assert_array_equal(pixels(path), np.asarray(first.convert("RGB")))


TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 3),
}


def oriented(save, orientation, name, **arguments):
    """A picture that a camera has stored turned, and noted how."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](PIXELS))
    return save(Image.fromarray(stored), name, exif=exif, **arguments)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_a_picture_is_turned_upright_as_its_camera_has_noted(save, orientation, name):
    path = oriented(save, orientation, name, lossless=True)
    found = np.asarray(open_picture(path, exif="upright"))
    np.testing.assert_array_equal(found, PIXELS)


def test_an_exif_rotation_is_ignored_as_clip_ignores_it_where_nothing_else_is_said(save):
    stored = pixels(oriented(save, 6, "a.png"))
    np.testing.assert_array_equal(stored, np.rot90(PIXELS))


@pytest.mark.parametrize(
    "damage", [b"Exif\0\0XX", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0"]
)
def test_a_picture_with_damaged_exif_data_stays_as_it_is(save, damage):
    path = save(PICTURE, "a.png", exif=b"Exif\0\0" + damage)
    np.testing.assert_array_equal(np.asarray(open_picture(path, exif="upright")), PIXELS)


def test_a_picture_of_very_many_pixels_is_named_and_read(save, monkeypatch, caplog, recwarn):
    path = save(PICTURE, "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert open_picture(path).size == (30, 20)
    assert f"{path}: 30 x 20 pixels take much memory" in caplog.text
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(PictureError, match="600 pixels"):
        open_picture(path)


SUFFIXES = ["jpg", "JPEG", "jpe", "jfif", "png", "gif", "bmp", "dib", "webp", "tif", "tiff", "ppm",
            "pgm", "pbm", "pnm", "pfm", "jp2", "tga", "ico", "psd"]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_counts_as_a_picture_by_its_suffix_even_if_it_is_damaged(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(b"")
    assert is_picture(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("name", ["a", "a.dat", "a.pdf", "a.jpg_large"])
def test_a_file_of_another_suffix_counts_by_its_content(save, tmp_path, name):
    assert is_picture(save(PICTURE, name, format="JPEG"))
    (tmp_path / name).write_text("a note\n" * 100)
    assert not is_picture(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 5000, b"PK\x03\x04" + bytes(500), b"%PDF-1.7\n", b"<svg>", b"%!PS-Adobe-3.0 EPSF",
     b"\x89HDF\r\n\x1a\n" + bytes(500), b"\0\0\x01\xb3" + bytes(500), b"a,b\n1,2\n"],
    ids=["empty", "zeros", "zip", "PDF", "SVG", "EPS", "HDF5", "MPEG", "CSV"],
)  # fmt: skip
def test_what_pillow_does_not_decode_itself_is_no_picture(tmp_path, content):
    (tmp_path / "a.dat").write_bytes(content)
    assert not is_picture(tmp_path / "a.dat")
