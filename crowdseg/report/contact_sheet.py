"""Contact sheets of prepared masks: a piece of many images at once, each large enough to judge the masks in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import cKDTree

from crowdseg import files
from crowdseg.data import read_image
from crowdseg.errors import DataError
from crowdseg.masks.store import MaskStore
from crowdseg.report.overlay import Picture, draw_overlay
from crowdseg.structures import LabelMap, Points, Sample

_COLUMNS, _ROWS = 4, 3
_CELL = (420, 560)  # (H, W) of a piece on the sheet, pixels
_CAPTION = 30  # px above each piece
_GAP = 12
_GROUND, _INK = (24, 27, 31), (232, 234, 237)
_LEGIBLE = 40  # px on the sheet from a person to the nearest other, in the median; below, outlines hide the masks
_LARGEST_ZOOM = 6

Tick = Callable[[int, int], None]  # images drawn, of how many

Window = tuple[slice, slice]  # rows and columns of the image


def write_contact_sheets(
    folder: Path, store: MaskStore, samples: Sequence[Sample], progress: Tick | None = None
) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Write ``sheet-1.jpg``, ... with twelve images each in place of those of an earlier run.

    An image whose people would be too small to see is shown in part: where most of them stand.

    Returns:
        The sheets, and the images that could not be read or have no readable masks, with the reason.

    Raises:
        WriteError: a sheet cannot be written.
    """
    for old in folder.glob("sheet-*.jpg"):
        old.unlink()
    paths: list[Path] = []
    failures: list[tuple[Path, str]] = []
    cells: list[tuple[str, Picture]] = []
    for number, sample in enumerate(samples, 1):
        try:
            cells.append((_caption(sample), piece(read_image(sample.image), store.labels(sample), sample.points)))
        except DataError as error:
            failures.append((sample.image, str(error)))
        if cells and (len(cells) == _COLUMNS * _ROWS or number == len(samples)):
            paths.append(folder / f"sheet-{len(paths) + 1}.jpg")
            files.write_picture(paths[-1], _sheet(cells))
            cells = []
        if progress is not None:
            progress(number, len(samples))
    return paths, failures


def piece(image: NDArray[np.uint8], labels: LabelMap, points: Points | None) -> Picture:
    """``(h, w, 3)``, at most a cell large: the overlay of the image, or of the part of it with the most people.

    Args:
        image: ``(H, W, 3)`` RGB. labels: ``(H, W)``. points: ``(N, 2)`` as (x, y) in pixels.
    """
    points = np.zeros((0, 2)) if points is None else np.asarray(points, np.float64)
    scale = _scale(labels.shape, points)
    rows, columns = _window(labels.shape, points, scale)
    size = (max(1, round((columns.stop - columns.start) * scale)), max(1, round((rows.stop - rows.start) * scale)))
    photograph = Image.fromarray(image[rows, columns]).resize(size, Image.Resampling.BICUBIC)
    masks = Image.fromarray(labels[rows, columns].astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    places = (points - [columns.start, rows.start] + 0.5) * scale - 0.5
    inside = ((places >= 0) & (places < size)).all(axis=1)
    return draw_overlay(np.asarray(photograph), np.asarray(masks), places[inside], min_side=1)


def _scale(size: tuple[int, ...], points: Points) -> float:
    """Pixels of the sheet per pixel of the image: the whole image if its people can be seen then, else larger."""
    whole = min(_CELL[0] / size[0], _CELL[1] / size[1])
    if len(points) > 1:
        spacing = max(float(np.median(cKDTree(points).query(points, k=2)[0][:, 1])), 1.0)
        whole = max(whole, _LEGIBLE / spacing)
    return min(whole, _LARGEST_ZOOM)


def _window(size: tuple[int, ...], points: Points, scale: float) -> Window:
    """The part of the image that a cell holds, around the point with the most others in reach."""
    height, width = (min(side, max(1, int(cell / scale))) for side, cell in zip(size, _CELL, strict=True))
    x, y = width / 2, height / 2
    if len(points) and (height, width) != tuple(size):
        within = points / [width / 2, height / 2]  # the window is a square of side 2 there
        x, y = points[np.argmax(cKDTree(within).query_ball_point(within, 1, p=np.inf, return_length=True))]
    top = int(np.clip(y - height / 2, 0, size[0] - height))
    left = int(np.clip(x - width / 2, 0, size[1] - width))
    return slice(top, top + height), slice(left, left + width)


def _caption(sample: Sample) -> str:
    return f"{sample.key} · {sample.count:,}"


def _sheet(cells: list[tuple[str, Picture]]) -> Picture:
    """The cells in rows, a caption above each."""
    columns, rows = min(_COLUMNS, len(cells)), -(-len(cells) // _COLUMNS)
    height, width = _CELL[0] + _CAPTION + _GAP, _CELL[1] + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _GROUND)
    draw = ImageDraw.Draw(sheet)
    # matplotlib's copy of DejaVu knows most alphabets and is there wherever crowdseg is
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 18)
    for number, (caption, picture) in enumerate(cells):
        row, column = divmod(number, _COLUMNS)
        x, y = _GAP + column * width, _GAP + row * height
        draw.text((x, y), _shortened(caption, font), _INK, font)
        left, top = (_CELL[1] - picture.shape[1]) // 2, (_CELL[0] - picture.shape[0]) // 2
        sheet.paste(Image.fromarray(picture), (x + left, y + _CAPTION + top))
    return np.asarray(sheet)


def _shortened(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The end of a text that is too long for a cell: there an image's own name stands."""
    start = 0
    while font.getlength("…" * (start > 0) + text[start:]) > _CELL[1]:
        start += 1
    return "…" * (start > 0) + text[start:]
