"""Reading photographs upright as 8-bit RGB, and their sizes from the header alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowdseg.errors import DataError
from crowdseg.structures import Size

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Pillow warns from 89 and refuses from 179 megapixels, where crowd panoramas begin. The files are the user's own; the
# limit only has to stay below what could fill a machine's memory unseen.
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, 2**30)

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path) -> NDArray[np.uint8]:
    """The upright image as ``(H, W, 3)`` uint8 RGB, whatever its mode; transparency is dropped.

    Raises:
        DataError: the file is missing, truncated or no image; the message names it.
    """
    with _opened(path) as image:
        turn = _TURNS.get(_orientation(image))
        array = _to_rgb(image)
    return array if turn is None else np.ascontiguousarray(Image.fromarray(array).transpose(turn))


def image_size(path: Path) -> Size:
    """``(H, W)`` of the upright image. Reads the header only, so a truncated body goes unnoticed.

    Raises:
        DataError: the file is missing or no image.
    """
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there.") from error
    except Exception as error:  # decoders raise anything on a damaged file, from SyntaxError to struct.error
        reason = "unknown format" if isinstance(error, Image.UnidentifiedImageError) else error
        raise DataError(f"{path} is not a readable image ({reason}). Replace or remove it.") from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none. To be asked before the pixels are loaded."""
    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    exif = Image.Exif()
    try:
        if image.format in ("PNG", "WEBP"):  # getexif would decode the whole image to look for a chunk at its end
            exif.load(image.info.get("exif") or b"")
        else:
            exif = image.getexif()
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # Pillow raises anything on damaged metadata; the pixels are as good as ever
        return 1
    return value if value in _TURNS else 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        return np.repeat(_to_uint8(np.asarray(image))[..., None], 3, axis=2)
    if image.mode == "P":  # a palette may hold transparency in a form that only RGBA keeps
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _to_uint8(values: NDArray) -> NDArray[np.uint8]:
    """More than 8 bits -> 8 bits: by the type's range, or stretched where the values fill a small part of it.

    Cameras and microscopes put 10 to 14 bits, or a narrow band, into 16: divided by 257 such an image would be almost
    black and most of its contrast rounded away. The percentiles keep a few hot pixels from deciding the range.
    """
    values = np.nan_to_num(values.astype(np.float32))
    low, high = np.percentile(values, [0.1, 99.9])
    top = 1.0 if values.max(initial=0) <= 1 and values.min(initial=0) >= 0 and high > 0 else 65535.0
    if values.max(initial=0) <= top and values.min(initial=0) >= 0 and high - low >= top / 4:
        low, high = 0.0, top
    scaled = (values - low) * (255.0 / max(high - low, 1e-6))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)
