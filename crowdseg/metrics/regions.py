"""Regions left out of scoring."""

from __future__ import annotations

import numpy as np

from crowdseg import rle
from crowdseg.structures import RLE, Points


def inside(points: Points, regions: list[RLE]) -> np.ndarray:
    """``(N,)`` bool: whether each point (x, y) lies in one of the regions; outside the image, never."""
    found = np.zeros(len(points), bool)
    if not len(points):
        return found
    x, y = np.rint(points).astype(np.int64).T
    for region in regions:
        height, width = region["size"]
        valid = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        found[valid] |= rle.to_mask(region)[y[valid], x[valid]]
    return found
