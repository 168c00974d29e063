"""Scores predictions image by image, whoever made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from crowdseg.errors import DataError
from crowdseg.metrics import Counting, ImageInstances, Instances, Localization, Matches, MeanIoU, box_sigmas, inside
from crowdseg.metrics.boundary import TOLERANCE
from crowdseg.metrics.counting import DENSITY_EDGES
from crowdseg.structures import RLE, LabelMap, Prediction, Sample

Truth = Callable[[Sample], "LabelMap | list[RLE] | None"]


@dataclass(frozen=True)
class ImageScores:
    """How one image came out.

    Attributes:
        key: the sample's key.
        true, predicted: people outside ignored regions.
        game: summed absolute errors of the cells of GAME(0) to GAME(3); empty where the predictions have no positions.
        localization: matches by name of the distance; empty where the predictions have no positions.
        masks: quality of the masks; None where they are missing on either side.
    """

    key: str
    true: int
    predicted: float
    game: tuple[int, ...] = ()
    localization: dict[str, Matches] = field(default_factory=dict)
    masks: ImageInstances | None = None

    @property
    def error(self) -> float:
        """Predicted - true."""
        return self.predicted - self.true

    @property
    def mean_iou_c(self) -> MeanIoU | None:
        """IoUs of the masks; None where they are missing on either side."""
        return None if self.masks is None else self.masks.mean_iou_c


class Scorer:
    """Keeps the metrics of one evaluation; images pass through it one at a time.

    Args:
        truth: gives the true masks of a sample, or None.
        min_score: people scored above count; average precision is over all that a prediction holds.
        located: whether the predictions have positions.
        boxes: take the distances of localisation from the people's boxes rather than 4 and 8 px.
        boundary_tolerance: in pixels, see :func:`crowdseg.metrics.boundary.boundary_f`.
        density_edges: the greatest true count of each density bin but the last.
    """

    def __init__(
        self,
        truth: Truth,
        *,
        min_score: float = 0.5,
        located: bool = True,
        boxes: bool = False,
        boundary_tolerance: float = TOLERANCE,
        density_edges: tuple[int, ...] = DENSITY_EDGES,
    ) -> None:
        self.counting, self.localization = Counting(density_edges), Localization()
        self.instances = Instances(min_score, boundary_tolerance)
        self.images: list[ImageScores] = []
        self.masked = 0  # images whose masks were scored
        self._truth, self._min_score, self._located, self._boxes = truth, min_score, located, boxes

    def add(self, sample: Sample, prediction: Prediction) -> None:
        """Score one annotated image.

        Raises:
            DataError: the prediction is of another size.
        """
        if tuple(prediction.size) != tuple(sample.size):
            raise DataError(
                f"The prediction for {sample.key} is {_size(prediction.size)}, but {sample.image} is"
                f" {_size(sample.size)}. Predict on the image itself, upright and at full size."
            )
        kept = prediction.above(self._min_score)
        points = np.zeros((0, 2)) if sample.points is None else sample.points
        scored = ~inside(points, sample.ignore)
        true, found = points[scored], kept.points[~inside(kept.points, sample.ignore)]
        game = self.counting.update(found if kept.total is None else kept.total, true, sample.size)
        matches: dict[str, Matches] = {}
        if self._located:
            boxes = np.zeros((0, 4)) if sample.boxes is None else sample.boxes[scored]
            matches = self.localization.update(found, true, box_sigmas(boxes) if self._boxes else None)
        predicted = float(len(found)) if kept.total is None else kept.total
        masks = self._add_masks(sample, prediction)
        self.images.append(ImageScores(sample.key, len(true), predicted, game, matches, masks))

    def _add_masks(self, sample: Sample, prediction: Prediction) -> ImageInstances | None:
        target = self._truth(sample) if prediction.has_masks else None
        if target is None:
            return None
        self.masked += 1
        return self.instances.update(prediction.masks(), target, prediction.scores, sample.ignore)


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]} px"
