"""How each person of one image came out, for those who show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowdseg.engine.roles import Role
from crowdseg.engine.scoring import ImageScores
from crowdseg.metrics import inside
from crowdseg.metrics.localization import box_sigmas, partners, pixel_sigmas
from crowdseg.structures import Points, Prediction, Sample


@dataclass(frozen=True)
class Findings:
    """One scored image with its people.

    Attributes:
        sample, scores: of the image.
        prediction: the people scored above the least score.
        distance: the name of the distance (the largest that localisation has) within which points were matched, None
            where the prediction has no positions.
        roles: ``(N,)`` :class:`Role` of each person of the prediction.
        missed: ``(K, 2)`` true points (x, y) without a partner.
        images: of how many this is one.
    """

    sample: Sample
    scores: ImageScores
    prediction: Prediction
    distance: str | None
    roles: NDArray[np.int8]
    missed: Points
    images: int


Look = Callable[[Findings], None]


def findings(sample: Sample, prediction: Prediction, scores: ImageScores, *, boxes: bool, images: int = 1) -> Findings:
    """Who of ``prediction`` was right, and who was missed.

    Args:
        scores: what the :class:`crowdseg.engine.scoring.Scorer` found for the image.
        boxes: take the distance from the people's boxes, as the scorer did.
        images: of how many this is one.
    """
    roles = np.full(len(prediction.points), Role.found, np.int8)
    if not scores.localization:
        return Findings(sample, scores, prediction, None, roles, np.zeros((0, 2)), images)
    points = np.zeros((0, 2)) if sample.points is None else sample.points
    scored, counted = ~inside(points, sample.ignore), ~inside(prediction.points, sample.ignore)
    sides = np.zeros((0, 4)) if sample.boxes is None else sample.boxes[scored]
    distance, sigma = list((box_sigmas(sides) if boxes else pixel_sigmas()).items())[-1]
    partner = partners(prediction.points[counted], points[scored], sigma)
    roles[:] = Role.ignored
    roles[counted] = np.where(np.isin(np.arange(counted.sum()), partner), Role.hit, Role.false)
    return Findings(sample, scores, prediction, distance, roles, points[scored][partner < 0], images)
