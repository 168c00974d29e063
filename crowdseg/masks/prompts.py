"""Head points and superpixels -> point and box prompts (xmask section 8, step 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crowdseg.masks.crowd import Crowd, Window
from crowdseg.masks.segmenters.base import Claim

PERSON, OTHER, NOTHING = 1, 0, -1  # labels of prompt points, as segment-anything numbers them
_NEIGHBOURS = 4
_INFLATE = 0.1


@dataclass(frozen=True)
class Prompts:
    """One row per person, pixels of the image.

    ``points`` ``(N, 5, 2)`` as (x, y): the person's own, then its nearest neighbours'; ``labels`` ``(N, 5)``.
    ``boxes`` ``(N, 4)`` as (x0, y0, x1, y1) around the person's superpixel.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def rows(self, indices: NDArray[np.intp]) -> Prompts:
        return Prompts(self.points[indices], self.labels[indices], self.boxes[indices])

    def inside(self, window: Window) -> Prompts:
        """In pixels of a part of the image: points beyond it say nothing, boxes end at its rim."""
        rows, columns = window
        corner = np.array([columns.start, rows.start], np.float64)
        size = np.array([columns.stop - columns.start, rows.stop - rows.start], np.float64)
        points = self.points - corner
        beyond = ((points < -0.5) | (points >= size - 0.5)).any(axis=-1)
        boxes = np.clip(self.boxes - np.tile(corner, 2), 0, np.tile(size, 2))
        return Prompts(points, np.where(beyond, NOTHING, self.labels), boxes)


def make_prompts(crowd: Crowd, patches: list[Claim]) -> Prompts:
    """``patches`` in point order, see :func:`crowdseg.masks.superpixels.patches`."""
    number = len(crowd)
    points = np.repeat(crowd.points[:, None], 1 + _NEIGHBOURS, axis=1)
    labels = np.full((number, 1 + _NEIGHBOURS), NOTHING, np.int64)
    labels[:, 0] = PERSON
    distances, near = cKDTree(crowd.points).query(crowd.points, k=[*range(1, 2 + _NEIGHBOURS)])
    # A point on the very same spot would be at once inside and outside.
    useful = (distances > 0) & (distances <= 2 * crowd.radii[:, None])
    for index in range(number):
        neighbours = near[index][useful[index]][:_NEIGHBOURS]
        points[index, 1 : 1 + len(neighbours)] = crowd.points[neighbours]
        labels[index, 1 : 1 + len(neighbours)] = OTHER
    return Prompts(points, labels, np.array([_box(patch, crowd) for patch in patches]).reshape(-1, 4))


def _box(patch: Claim, crowd: Crowd) -> list[float]:
    """The patch's box, inflated, inside the image; around the point's pixel where the patch is empty."""
    rows, columns = np.nonzero(patch.mask)
    if len(rows) == 0:
        rows, columns = (np.array([each[patch.index]]) for each in crowd.pixels)
    else:
        rows, columns = rows + patch.window[0].start, columns + patch.window[1].start
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)
    by = np.array([box[2] - box[0], box[3] - box[1]]) * (_INFLATE / 2)
    height, width = crowd.size
    return np.clip(box + np.r_[-by, by], 0, [width, height, width, height]).tolist()
