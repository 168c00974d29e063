from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crowdseg.data import image_size, read_image
from crowdseg.errors import DataError


def quadrants() -> np.ndarray:
    """(40, 60, 3), upper left red, upper right green, lower left blue, lower right white."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30, 0] = pixels[:20, 30:, 1] = pixels[20:, :30, 2] = pixels[20:, 30:] = 250
    return pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_every_exif_orientation_is_undone(tmp_path, orientation, suffix):
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](quadrants())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif)
    assert image_size(path) == (40, 60)
    assert np.abs(read_image(path)[5:-5:10, 5:-5:10].astype(int) - quadrants()[5:-5:10, 5:-5:10]).max() < 40


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("photo.jpg" if mode == "CMYK" else "photo.png")
    image = Image.fromarray(quadrants()).convert(mode)
    if mode == "P":
        image.info["transparency"] = 0
    image.save(path)
    expected = np.asarray(image.convert("RGBA").convert("RGB"), int)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.shape == (40, 60, 3)
    assert np.abs(pixels[::10, 5::10] - expected[::10, 5::10]).max() < (30 if mode == "CMYK" else 1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_over_the_whole_range_is_divided(tmp_path, suffix):
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert np.abs(read_image(tmp_path / f"a.{suffix}")[..., 1] - values / 257.0).max() <= 0.51


def test_16_bit_in_a_small_part_of_the_range_is_stretched(tmp_path):
    values = np.linspace(1000, 3000, 40 * 60).reshape(40, 60).astype(np.uint16)
    values[0, 0] = 65535  # one hot pixel must not decide
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels.min() == 0 and pixels.max() == 255 and abs(np.median(pixels) - 127) < 4


def test_a_flat_16_bit_image_does_not_divide_by_zero(tmp_path):
    Image.fromarray(np.full((4, 5), 700, np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (4, 5, 3)


def test_float_images_in_0_1_keep_their_range(tmp_path):
    values = np.linspace(0, 1, 200).reshape(10, 20).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif")[..., 0] - values * 255).max() <= 0.51


def test_trailing_bytes_are_tolerated(tmp_path, photograph):
    path = photograph(tmp_path / "a.jpg")
    before = read_image(path)
    path.write_bytes(path.read_bytes() + b"appended by a camera" * 50)
    assert np.array_equal(read_image(path), before)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_files_are_named(tmp_path, photograph, suffix):
    path = photograph(tmp_path / f"cut.{suffix}", size=(200, 200))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=rf"cut\.{suffix}"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_what_is_no_image_is_named(tmp_path, read):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for name in ("text.jpg", "empty.jpg", "absent.jpg"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)


@pytest.mark.filterwarnings("error")
def test_200_megapixels_are_not_taken_for_an_attack(tmp_path):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "panorama.png")
    assert image_size(tmp_path / "panorama.png") == (10_000, 20_000)


def test_size_comes_from_the_header(tmp_path, photograph):
    path = photograph(tmp_path / "cut.png", size=(300, 200))
    path.write_bytes(path.read_bytes()[:1000])
    assert image_size(path) == (300, 200)


def test_damaged_metadata_does_not_spoil_the_image(tmp_path, photograph):
    path = photograph(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    assert image_size(path) == (40, 60) and read_image(path).shape == (40, 60, 3)
