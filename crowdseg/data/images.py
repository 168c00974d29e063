"""Reading photographs upright as 8-bit RGB, and their sizes from the header alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowdseg.errors import DataError
from crowdseg.memory import LARGE, return_freed_memory
from crowdseg.structures import Size

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Pillow warns from 89 and refuses from 179 megapixels, where crowd panoramas begin. The files are the user's own; the
# limit only has to stay below what could fill a machine's memory unseen.
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, 2**30)

_COPIED_AT_ONCE = 1 << 20  # pixels

_ORIENTATION = 0x0112  # EXIF tag
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.transpose(1, 0, 2),
    6: lambda array: array[::-1].transpose(1, 0, 2),
    7: lambda array: array[::-1, ::-1].transpose(1, 0, 2),
    8: lambda array: array[:, ::-1].transpose(1, 0, 2),
}


def read_image(path: Path) -> NDArray[np.uint8]:
    """The upright image as ``(H, W, 3)`` uint8 RGB, whatever its mode; transparency is dropped.

    Raises:
        DataError: the file is missing, truncated or no image; the message names it.
    """
    array, orientation = _decoded(path)
    if array.nbytes > LARGE:
        return_freed_memory()
    return np.ascontiguousarray(_TURNS[orientation](array)) if orientation in _TURNS else array


def _decoded(path: Path) -> tuple[NDArray[np.uint8], int]:
    """The image as it is stored, and its orientation. Pillow's copy of it ends with this function."""
    with _opened(path) as image:
        orientation = _orientation(image)
        return _copied(image) if image.mode == "RGB" else _to_rgb(image), orientation


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
    except PermissionError as error:
        raise DataError(f"{path} may not be read: change its permissions.") from error
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


def _copied(image: Image.Image) -> NDArray[np.uint8]:
    """What :func:`_to_rgb` gives, in half of the memory: Pillow's own way holds a large image four times."""
    rows = max(1, _COPIED_AT_ONCE // max(1, image.width))
    if rows >= image.height:
        return np.asarray(image)
    array = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        array[top : top + rows] = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
    return array


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
