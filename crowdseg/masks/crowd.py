"""The people of one image: points, exclusion circles, and the windows in which each is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crowdseg import ops
from crowdseg.structures import LabelMap, Points, Size

Window = tuple[slice, slice]  # rows and columns of the image
_RIM = 1 + 1e-6  # the nearest neighbour lies exactly on the rim and counts as inside


@dataclass(frozen=True)
class Crowd:
    """Points with their exclusion circles (xmask section 2).

    Attributes:
        points: ``(N, 2)`` float64 as (x, y), inside the image. radii: ``(N,)`` float64, pixels.
        nearest: ``(H, W)`` int32, the label of the nearest point whose circle contains the pixel, 0 outside all.
    """

    points: Points
    radii: NDArray[np.float64]
    nearest: LabelMap

    @classmethod
    def of(cls, points: Points, size: Size, min_radius: float = 3.0) -> Crowd:
        """Circles reach to the nearest neighbour, at most half the image's short side; a lone point's to a quarter."""
        height, width = size
        points = np.clip(np.asarray(points, np.float64).reshape(-1, 2), 0, [width - 1, height - 1])
        side = min(size)
        places = torch.from_numpy(np.ascontiguousarray(points))
        limit = max(side / (4 if len(points) == 1 else 2), min_radius)
        radii = ops.nearest_neighbor_radii(places, min_radius=min_radius, max_radius=limit)
        nearest = ops.exclusion_labels(places, radii, size)[0].numpy()
        return cls(points, radii.numpy(), nearest)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def size(self) -> Size:
        return self.nearest.shape  # type: ignore[return-value]

    @property
    def pixels(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns ``(N,)`` of the pixels that hold the points."""
        columns, rows = np.floor(self.points + 0.5).astype(np.intp).T
        return np.minimum(rows, self.size[0] - 1), np.minimum(columns, self.size[1] - 1)

    def window(self, index: int, reach: float) -> Window:
        """The part of the image within ``reach`` px of a point, along the axes."""
        (x, y), (height, width) = self.points[index], self.size
        rows = slice(max(0, int(np.floor(y - reach))), min(height, int(np.ceil(y + reach)) + 1))
        return rows, slice(max(0, int(np.floor(x - reach))), min(width, int(np.ceil(x + reach)) + 1))

    def offsets(self, index: int, window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``(1, w)`` and ``(h, 1)`` px to the right of and below the point."""
        rows, columns = window
        x, y = self.points[index]
        return np.arange(columns.start, columns.stop)[None] - x, np.arange(rows.start, rows.stop)[:, None] - y

    def inside(self, index: int, window: Window) -> NDArray[np.bool_]:
        """Which pixels of the window lie in the point's circle."""
        right, below = self.offsets(index, window)
        return right**2 + below**2 <= self.radii[index] ** 2 * _RIM

    def inside_own(self, labels: LabelMap) -> NDArray[np.bool_]:
        """Which labelled pixels of the whole image lie in the circle of the person they are given to."""
        rows, columns = np.nonzero(labels)
        owner = labels[rows, columns] - 1
        x, y = self.points[owner].T
        result = np.zeros(labels.shape, bool)
        result[rows, columns] = (columns - x) ** 2 + (rows - y) ** 2 <= self.radii[owner] ** 2 * _RIM
        return result
