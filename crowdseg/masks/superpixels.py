"""Superpixels, and the patch under each point of those whose size follows the crowd."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.segmentation import slic

from crowdseg.masks.crowd import Crowd
from crowdseg.masks.segmenters.base import Claim, part_at

LEAST_AREA = 16.0  # px
_COMPACTNESS, _ROUNDS = 10.0, 5


def to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(H, W, 3)`` RGB -> LAB, in single precision all the way: of a large image every copy counts."""
    return rgb2lab(image.astype(np.float32) / np.float32(255))


def superpixels(lab: NDArray[np.float32], area: float) -> NDArray[np.int32]:
    """SLIC of a LAB image ``(H, W, 3)``: labels ``(H, W)`` from 0, segments of about ``area`` pixels."""
    return slic(
        lab,
        n_segments=max(2, round(lab[..., 0].size / area)),
        compactness=_COMPACTNESS,
        max_num_iter=_ROUNDS,
        convert2lab=False,
        channel_axis=2,
        start_label=0,
    ).astype(np.int32)


def crowd_area(crowd: Crowd) -> float:
    """Pixels of a superpixel that suits the crowd: a disc of half the median circle's radius."""
    height, width = crowd.size
    return float(np.clip(np.pi * (np.median(crowd.radii) / 2) ** 2, LEAST_AREA, max(LEAST_AREA, height * width / 50)))


def patches(image: NDArray[np.uint8], crowd: Crowd) -> Iterator[Claim]:
    """For each point the superpixel under it (S_n of xmask section 8), cut to its circle, the part at the point."""
    segments = superpixels(to_lab(image), crowd_area(crowd))
    rows, columns = crowd.pixels
    for index in range(len(crowd)):
        window = crowd.window(index, crowd.radii[index])
        at = rows[index] - window[0].start, columns[index] - window[1].start
        mask = (segments[window] == segments[rows[index], columns[index]]) & crowd.inside(index, window)
        relative = np.hypot(*crowd.offsets(index, window)) / crowd.radii[index]
        yield Claim(index, window, part_at(mask, *at), (-relative).astype(np.float32), "superpixel")
