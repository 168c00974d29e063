"""Photographs for an HTML page, as JPEG in so many bytes at most: a thumbnail and, where more fits, tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowdseg.report.page_parts import jpeg
from crowdseg.structures import Size

TILE = 512  # px, side of a tile
_THUMBNAIL = 320  # px, longer side
_THUMBNAIL_BYTES = 14_000
_THUMBNAIL_QUALITY, _QUALITY = 50, 70  # of JPEG
_MOST_PIXELS = 16e6  # of a picture: what a phone's browser can hold decoded
_STRIPE = 256  # rows that are reduced at a time


@dataclass(frozen=True)
class PagePicture:
    """One photograph, JPEGs in base64.

    Attributes:
        thumbnail: the whole picture. size: (H, W) of the picture that the tiles make, or of the thumbnail without them.
        tiles: row by row, each TILE x TILE pixels but for the last ones; none where the thumbnail shows as much.
    """

    thumbnail: str
    size: Size
    tiles: list[str]

    @property
    def bytes(self) -> int:
        return len(self.thumbnail) + sum(map(len, self.tiles))


def page_picture(pixels: NDArray[np.uint8], most: int) -> PagePicture:
    """``(H, W, 3)`` in ``most`` bytes, as large as they allow; the thumbnail is there in any case."""
    thumbnail, size = _thumbnail(pixels)
    room, area = most - len(thumbnail), pixels.shape[0] * pixels.shape[1]
    # A larger picture takes about half as many bytes a pixel as its thumbnail; where not, the next one is smaller.
    wanted = min(_MOST_PIXELS, room / len(thumbnail) * 2 * size[0] * size[1])
    while wanted > 0:
        larger = _scaled(pixels.shape[:2], min(1.0, math.sqrt(wanted / area)))
        if max(larger) <= max(size):
            break
        tiles = _tiles(_resized(pixels, larger))
        taken = sum(map(len, tiles))
        if taken <= room:
            return PagePicture(thumbnail, larger, tiles)
        wanted = 0.9 * larger[0] * larger[1] * room / taken
    return PagePicture(thumbnail, size, [])


def _thumbnail(pixels: NDArray[np.uint8]) -> tuple[str, Size]:
    """JPEG and (H, W); smaller where the picture takes more bytes than it should, as noise does."""
    size = _scaled(pixels.shape[:2], min(1.0, _THUMBNAIL / max(pixels.shape[:2])))
    while len(content := jpeg(_resized(pixels, size), _THUMBNAIL_QUALITY, 2)) > _THUMBNAIL_BYTES:
        size = _scaled(size, 0.8)
    return content, size


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(pixels: NDArray[np.uint8], size: Size) -> Image.Image:
    """First by a whole factor, a stripe at a time: the picture is never copied at its full size."""
    factor = min(have // want for have, want in zip(pixels.shape[:2], size, strict=True))
    if factor > 1:
        stripes = (pixels[top : top + _STRIPE * factor] for top in range(0, len(pixels), _STRIPE * factor))
        pixels = np.concatenate([np.asarray(Image.fromarray(stripe).reduce(factor)) for stripe in stripes])
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return picture if pixels.shape[:2] == size else picture.resize(size[::-1], Image.Resampling.LANCZOS)


def _tiles(picture: Image.Image) -> list[str]:
    corners = [(left, top) for top in range(0, picture.height, TILE) for left in range(0, picture.width, TILE)]
    return [
        jpeg(picture.crop((x, y, min(x + TILE, picture.width), min(y + TILE, picture.height))), _QUALITY, 2)
        for x, y in corners
    ]
