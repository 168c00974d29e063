"""The point that stands for a mask: a pedestrian's head, or a point well inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEAD_SHARE = 0.07  # of a standing person's height: the middle of the face lies about 7 % below the top


def head_point(mask: NDArray) -> tuple[float, float]:
    """``(x, y)`` of a standing pedestrian's head: 7 % below the top of the ``(H, W)`` mask, in the middle of that row.

    The middle pixel of the row's own pixels, so the point always lies on the mask.

    Raises:
        ValueError: the mask is empty.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        raise ValueError("an empty mask has no head")
    wanted = rows[0] + HEAD_SHARE * (rows[-1] - rows[0] + 1)
    row = rows[np.abs(rows - wanted).argmin()]
    columns = np.flatnonzero(mask[row])
    return float(columns[len(columns) // 2]), float(row)


def inner_point(mask: NDArray) -> tuple[float, float]:
    """``(x, y)`` of the pixel of the ``(H, W)`` mask that is furthest from its rim (the image's border counts as rim).

    Raises:
        ValueError: the mask is empty.
    """
    from scipy.ndimage import distance_transform_edt

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        raise ValueError("an empty mask has no inner point")
    part = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    y, x = np.unravel_index(distance_transform_edt(part).argmax(), part.shape)
    return float(x - 1 + columns[0]), float(y - 1 + rows[0])
