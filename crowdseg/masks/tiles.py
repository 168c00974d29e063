"""Parts of the image that a network sees one by one, enlarged where heads are small (xmask section 8, step 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowdseg.masks.crowd import Crowd, Window
from crowdseg.structures import Size

HEAD = 24.0  # px of the network's input that the median circle's diameter in a tile should have
MAX_ZOOM = 4.0  # input pixels per image pixel at most
_OVERLAP = 1.5  # a tile's side as a multiple of its core's; cores do not overlap


@dataclass(frozen=True)
class Tile:
    """A part of the image that is encoded at once, and the people ``(n,)``, by index, to be segmented in it."""

    window: Window
    people: NDArray[np.intp]


@dataclass(frozen=True)
class _Core:
    """The middle of a tile, in cells of the finest grid; together cores cover the image without overlap."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    def parts(self) -> Iterator[_Core]:
        """Halves of the longer side, of both where they are alike; nothing where the core is one cell."""
        longest = max(self.rows[1] - self.rows[0], self.columns[1] - self.columns[0])
        if longest > 1:
            yield from (_Core(r, c) for r in _halves(self.rows, longest) for c in _halves(self.columns, longest))


def _halves(side: tuple[int, int], longest: int) -> list[tuple[int, int]]:
    start, stop = side
    if stop - start == 1 or 2 * (stop - start) <= longest:
        return [side]
    return [(start, (start + stop) // 2), ((start + stop) // 2, stop)]


def make_tiles(crowd: Crowd, side: int) -> list[Tile]:
    """Overlapping tiles that hold every person once, each in the tile where its point lies furthest from the rim.

    Starts from the whole image and divides a tile as long as the median of its circles' diameters is below ``HEAD`` px
    of the input, until the input shows ``MAX_ZOOM`` times the image.

    Args:
        side: of the network's input, to which a tile's longer side is scaled, in pixels.
    """
    least = side / MAX_ZOOM
    grid = tuple(max(1, int(np.ceil(length * _OVERLAP / least))) for length in crowd.size)
    cores = [_Core((0, grid[0]), (0, grid[1]))]
    while True:
        windows = [_window(core, crowd.size, grid, least) for core in cores]
        tile_of = _deepest(crowd, windows)
        parts = [
            list(core.parts()) if _too_small(crowd, tile_of == number, window, side) else []
            for number, (core, window) in enumerate(zip(cores, windows, strict=True))
        ]
        if not any(parts):
            people = (np.flatnonzero(tile_of == number) for number in range(len(windows)))
            return [Tile(window, each) for window, each in zip(windows, people, strict=True) if len(each)]
        cores = [part for core, divided in zip(cores, parts, strict=True) for part in divided or [core]]


def _window(core: _Core, size: Size, grid: Sequence[int], least: float) -> Window:
    """The square around a core, moved and cut to lie in the image."""
    sides = [
        (cells[0] * length / number, cells[1] * length / number)
        for cells, length, number in zip((core.rows, core.columns), size, grid, strict=True)
    ]
    square = int(np.ceil(max(least, _OVERLAP * max(stop - start for start, stop in sides))))
    starts = [round((start + stop - square) / 2) for start, stop in sides]
    starts = [max(0, min(start, length - square)) for start, length in zip(starts, size, strict=True)]
    rows, columns = (slice(start, min(start + square, length)) for start, length in zip(starts, size, strict=True))
    return rows, columns


def _deepest(crowd: Crowd, windows: list[Window]) -> NDArray[np.intp]:
    """For each person ``(N,)`` the window in which the point lies furthest from the rim, as a share of its side.

    Where a window ends with the image nothing is cut off, so that side is no rim.
    """
    best, deepest = np.zeros(len(crowd), np.intp), np.full(len(crowd), -np.inf)
    for number, window in enumerate(windows):
        depth = np.full(len(crowd), np.inf)
        for span, at, length in zip(window, crowd.points.T[::-1], crowd.size, strict=True):
            before = at - span.start + 0.5 if span.start > 0 else np.inf
            after = span.stop - 0.5 - at if span.stop < length else np.inf
            depth = np.minimum(depth, np.minimum(before, after))
        depth /= _longer(window)
        better = depth > deepest
        best[better], deepest[better] = number, depth[better]
    return best


def _too_small(crowd: Crowd, people: NDArray[np.bool_], window: Window, side: int) -> bool:
    if not people.any():
        return False
    return bool(2 * np.median(crowd.radii[people]) * side / _longer(window) < HEAD)


def _longer(window: Window) -> int:
    return max(span.stop - span.start for span in window)
