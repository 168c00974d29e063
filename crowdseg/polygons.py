"""Masks as polygons that follow the pixels' edges, so that nothing of a mask is lost.

Vertices are ``(x, y)`` in pixel edges: pixel (column, row) is the square from (column, row) to (column + 1, row + 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Ring = NDArray[np.int64]  # (V, 2) as (x, y), the first vertex again at the end


def polygons(mask: NDArray[np.bool_]) -> list[list[Ring]]:
    """``(H, W)`` mask -> a polygon for each 4-connected part: its outline, then its holes.

    Outlines turn from x towards y (clockwise on a screen, where y points down), holes the other way, as GeoJSON asks.
    Parts that meet in a corner alone share that vertex and no edge.
    """
    parts, number = ndimage.label(mask)
    outlines: list[Ring] = [np.empty((0, 2), np.int64)] * number
    holes: list[list[Ring]] = [[] for _ in range(number)]
    for ring in _rings(np.pad(mask, 1)):
        x, y = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]]  # of the uppermost corners the one on the left
        if mask[y : y + 1, x : x + 1].any():
            outlines[parts[y, x] - 1] = ring if _area(ring) > 0 else ring[::-1]
        else:  # what is above the corner of a hole encloses it
            holes[parts[y - 1, x] - 1].append(ring if _area(ring) < 0 else ring[::-1])
    return [[outline, *inner] for outline, inner in zip(outlines, holes, strict=True)]


def _area(ring: Ring) -> int:
    """Twice the area, negative where the ring turns from y towards x."""
    (x, y), (right, below) = ring[:-1].T, ring[1:].T
    return int((x * below - right * y).sum())


def _rings(padded: NDArray[np.bool_]) -> list[Ring]:
    """All rings between pixels inside and outside, of a mask with a rim of one pixel outside.

    The corners of such rings, taken along a row, are joined in pairs by its horizontal edges, and along a column by its
    vertical ones. Going by a horizontal and a vertical edge in turn leads around a ring.
    """
    corners, across, along = _corners(padded)
    rings, seen = [], np.zeros(len(corners), bool)
    for start in range(len(corners)):
        ring, place = [], start
        while not seen[place]:
            beside = across[place]
            seen[[place, beside]] = True
            ring += [place, beside]
            place = along[beside]
        if ring:
            rings.append(corners[[*ring, start]])
    return rings


def _corners(padded: NDArray[np.bool_]) -> tuple[Ring, NDArray[np.intp], NDArray[np.intp]]:
    """``(V, 2)`` corners, and of each the one at the other end of its horizontal and of its vertical edge.

    Where two pixels meet in a corner it is listed twice, each time for the edges of one of them.
    """
    upper_left, upper_right, lower_left, lower_right = (
        padded[:-1, :-1],
        padded[:-1, 1:],
        padded[1:, :-1],
        padded[1:, 1:],
    )
    single = upper_left ^ upper_right ^ lower_left ^ lower_right
    falling = upper_left & lower_right & ~upper_right & ~lower_left
    rising = upper_right & lower_left & ~upper_left & ~lower_right
    times = single + 2 * (falling | rising)
    y, x = (np.repeat(place, times[np.nonzero(times)]) for place in np.nonzero(times))
    # In a row the corner of two comes first as the end of the edge on its left, then as the beginning of that on its
    # right. Of the pair the one with the left edge has the upper edge too where the pixel at the upper left is inside.
    second = np.append(False, (y[1:] == y[:-1]) & (x[1:] == x[:-1]))
    below = np.where(rising[y, x], ~second, second)
    across, along = np.empty(len(x), np.intp), np.empty(len(x), np.intp)
    for other, order in ((across, np.arange(len(x))), (along, np.lexsort((below, y, x)))):
        other[order[::2]], other[order[1::2]] = order[1::2], order[::2]
    return np.stack([x, y], axis=1), across, along
