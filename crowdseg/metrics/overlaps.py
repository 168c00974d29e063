"""Which masks overlap, and by how much, without a dense matrix of all pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowdseg.metrics.runs import Runs, shared_pixels


@dataclass(frozen=True)
class Overlaps:
    """The pairs of prediction and target that share at least one pixel.

    Attributes:
        prediction, target: ``(K,)`` int64 indices from 0, sorted by prediction, then target.
        iou: ``(K,)`` float64 in (0, 1].
        predictions: number of predictions, those without a pixel included.
        targets: number of targets.
        present: number of targets that own a pixel; the others cannot be found and are not counted as instances.
    """

    prediction: np.ndarray
    target: np.ndarray
    iou: np.ndarray
    predictions: int
    targets: int
    present: int

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of predictions and targets."""
        return self.predictions, self.targets

    def only(self, use: np.ndarray) -> Overlaps:
        """Only the pairs marked in ``use`` ``(K,)`` bool; the indices stay."""
        return Overlaps(self.prediction[use], self.target[use], self.iou[use], *self.shape, self.present)


def overlaps(prediction: Runs, target: Runs) -> Overlaps:
    """Overlapping pairs of two sets of masks of one image.

    Raises:
        ValueError: the sizes differ.
    """
    if prediction.size and target.size and tuple(prediction.size) != tuple(target.size):
        raise ValueError(f"expected masks of one size, got {tuple(prediction.size)} and {tuple(target.size)}")
    first, second, shared = shared_pixels(prediction, target)
    areas = target.areas
    iou = shared / (prediction.areas[first] + areas[second] - shared)
    return Overlaps(first, second, iou, prediction.number, target.number, int((areas > 0).sum()))


def ignored_share(prediction: Runs, regions: Runs) -> np.ndarray:
    """``(N,)`` the largest share of each prediction that lies inside a single one of the ignored regions."""
    share = np.zeros(prediction.number)
    mask, _, pixels = shared_pixels(prediction, regions)
    np.maximum.at(share, mask, pixels / prediction.areas[mask])
    return share
