"""Every kind of odd image has a defined result."""

import io

import numpy as np
import pytest
from PIL import Image

from vtclip.features.pictures import PictureError, open_picture

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


def test_a_truncated_jpeg_is_refused(save):
    path = save(PICTURE, "a.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PictureError, match="truncated"):
        open_picture(path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(PictureError, match="the file is empty"):
        open_picture(tmp_path / "a.jpg")


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>")
    with pytest.raises(PictureError, match="it is no image"):
        open_picture(tmp_path / "a.jpg")


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


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    grey = (np.arange(600, dtype=np.uint16) * 109).reshape(20, 30)
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_allclose(pixels(tmp_path / "a.png")[..., 0], grey // 256, atol=1)


def test_the_transparency_of_a_palette_is_dropped(save):
    palette = PICTURE.convert("P")
    path = save(palette, "a.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(pixels(path), np.asarray(palette.convert("RGB")))


def test_of_an_animation_the_first_frame_is_taken(save):
    other = Image.new("RGB", PICTURE.size)
    path = save(PICTURE, "a.gif", save_all=True, append_images=[other])
    first = Image.open(io.BytesIO(path.read_bytes()))
    np.testing.assert_array_equal(pixels(path), np.asarray(first.convert("RGB")))


def test_an_exif_rotation_is_ignored_as_clip_ignores_it(save):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    path = save(PICTURE, "a.jpg", exif=exif)
    assert pixels(path).shape == PIXELS.shape
