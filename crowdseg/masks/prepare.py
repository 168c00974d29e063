"""Masks from points (xmask section 8), for one image: circles -> the segmenter's claims -> exclusive masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crowdseg.masks.crowd import Crowd
from crowdseg.masks.exclusion import disc, settle
from crowdseg.masks.segmenters.base import Claim, Segmenter
from crowdseg.masks.settings import MaskSettings
from crowdseg.masks.store import Record
from crowdseg.structures import LabelMap, Points

_LEAST_AREA = 4  # px; smaller claims of people with room for more are taken for failures


def masks_from_points(
    image: NDArray[np.uint8], points: Points, segmenter: Segmenter, settings: MaskSettings
) -> tuple[LabelMap, list[Record]]:
    """Give every point a mask.

    Args:
        image: ``(H, W, 3)`` RGB.
        points: ``(N, 2)`` as (x, y) in pixels, inside the image.

    Returns:
        ``(H, W)`` int32, n + 1 where the n-th point's person is, and a record per person in the same order.
    """
    crowd = Crowd.of(points, image.shape[:2], settings.min_radius)
    if not len(crowd):
        return np.zeros(image.shape[:2], np.int32), []
    claims: list[Claim | None] = [None] * len(crowd)
    for claim in segmenter.claims(image, crowd):
        if claim.mask.sum() >= _LEAST_AREA:
            claims[claim.index] = claim
    filled = [claim or disc(crowd, index) for index, claim in enumerate(claims)]
    labels = settle(filled, crowd)
    return labels, _records(filled, labels, crowd)


def _records(claims: list[Claim], labels: LabelMap, crowd: Crowd) -> list[Record]:
    areas = np.bincount(labels.ravel(), minlength=len(crowd) + 1)[1:]
    return [
        Record(
            claim.index,
            (float(x), float(y)),
            claim.source,
            claim.score,
            round(claim.leakage, 4),
            int(area),
            round(float(radius), 3),
        )
        for claim, (x, y), area, radius in zip(claims, crowd.points, areas, crowd.radii, strict=True)
    ]
