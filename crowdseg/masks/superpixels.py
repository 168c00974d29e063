"""Superpixels whose size follows the crowd, and the patch of them under each point."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.segmentation import slic

from crowdseg.masks.crowd import Crowd
from crowdseg.masks.segmenters.base import Claim, part_at

_COMPACTNESS, _ROUNDS = 10.0, 5


def superpixels(image: NDArray[np.uint8], crowd: Crowd) -> NDArray[np.int32]:
    """SLIC in LAB: ``(H, W)`` labels; segments of about the area of a disc of half the median circle's radius."""
    area = float(np.clip(np.pi * (np.median(crowd.radii) / 2) ** 2, 16, max(16.0, image[..., 0].size / 50)))
    return slic(
        rgb2lab(image).astype(np.float32),
        n_segments=max(2, round(image[..., 0].size / area)),
        compactness=_COMPACTNESS,
        max_num_iter=_ROUNDS,
        convert2lab=False,
        channel_axis=2,
        start_label=0,
    ).astype(np.int32)


def patches(segments: NDArray[np.int32], crowd: Crowd) -> Iterator[Claim]:
    """For each point the superpixel under it (S_n of xmask section 8), cut to its circle, the part at the point."""
    rows, columns = crowd.pixels
    for index in range(len(crowd)):
        window = crowd.window(index, crowd.radii[index])
        at = rows[index] - window[0].start, columns[index] - window[1].start
        mask = (segments[window] == segments[rows[index], columns[index]]) & crowd.inside(index, window)
        relative = np.hypot(*crowd.offsets(index, window)) / crowd.radii[index]
        yield Claim(index, window, part_at(mask, *at), (-relative).astype(np.float32), "superpixel")
