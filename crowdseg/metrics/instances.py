"""Quality of instance masks: Mean IoU C, F1 at IoU 0.5, mask AP."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crowdseg.metrics.average_precision import AveragePrecision
from crowdseg.metrics.matching import Matches, best_assignment, maximum_matching, ratio
from crowdseg.metrics.overlaps import Overlaps, ignored_share, overlaps
from crowdseg.structures import RLE, LabelMap

Masks = LabelMap | list[RLE]  # exclusive label map, or masks that may overlap


@dataclass(frozen=True)
class MeanIoU:
    """Sum of IoUs under the Hungarian matching, and the number of true instances it is divided by."""

    iou_sum: float = 0.0
    instances: int = 0

    def __add__(self, other: MeanIoU) -> MeanIoU:
        return MeanIoU(self.iou_sum + other.iou_sum, self.instances + other.instances)

    @property
    def value(self) -> float | None:
        """Mean IoU C in [0, 1]; None without true instances."""
        return ratio(self.iou_sum, self.instances)


@dataclass(frozen=True)
class ImageInstances:
    """What one image contributes."""

    mean_iou_c: MeanIoU
    matches: Matches  # at IoU 0.5


@dataclass(frozen=True)
class InstanceResult:
    """Quality of masks over ``images`` images, all values in [0, 1]. A value that is not defined is None.

    Attributes:
        mean_iou_c: sum of IoUs under the Hungarian matching over all images / number of true instances.
        matches: one-to-one matches with IoU of at least 0.5; gives precision, recall, f1.
        ap, ap50: COCO mask AP over IoU 0.50:0.95 and at 0.50, with no cap on the number of detections.
    """

    images: int
    mean_iou_c: float | None
    matches: Matches
    ap: float | None
    ap50: float | None


@dataclass
class Instances:
    """Accumulates masks image by image: ``update``, ``compute``, ``reset``."""

    min_score: float = -np.inf
    _images: int = 0
    _iou: MeanIoU = field(default_factory=MeanIoU)
    _matches: Matches = field(default_factory=Matches)
    _precision: AveragePrecision = field(default_factory=AveragePrecision)

    def update(
        self, prediction: Masks, target: Masks, scores: np.ndarray | None = None, ignore: list[RLE] | None = None
    ) -> ImageInstances:
        """Add one image.

        Args:
            prediction: ``(H, W)`` label map (n + 1 the n-th person) or N masks that may overlap.
            target: the same for the truth; instances without a pixel are not counted.
            scores: ``(N,)``. AP is over all predictions; everything else over those scored above ``min_score``.
                Default: all 1.
            ignore: regions left out: predictions that match nothing and lie there for the greater part are not wrong.

        Returns:
            What this image contributes.
        """
        number = None if scores is None else len(scores)
        pairs = overlaps(prediction, target, number)
        share = ignored_share(prediction, ignore or [], pairs.predictions)
        scores = np.ones(pairs.predictions) if scores is None else np.asarray(scores)
        kept = scores > self.min_score
        image = ImageInstances(_mean_iou(_restrict(pairs, kept)), _matches(pairs, kept, share))
        self._images += 1
        self._iou += image.mean_iou_c
        self._matches += image.matches
        self._precision.update(pairs, scores, share)
        return image

    def compute(self) -> InstanceResult:
        """The values over all images so far."""
        ap, ap50 = self._precision.compute()
        return InstanceResult(self._images, self._iou.value, self._matches, ap, ap50)

    def reset(self) -> None:
        """Forget all images."""
        self.__init__(self.min_score)  # type: ignore[misc]


def mean_iou_c(prediction: Masks, target: Masks) -> MeanIoU:
    """Mean IoU C of one image: add the results of several images to pool them, and read ``.value``.

    Args:
        prediction: ``(H, W)`` label map (0 background) or a list of masks that may overlap.
        target: the same for the truth.
    """
    return _mean_iou(overlaps(prediction, target))


def _mean_iou(pairs: Overlaps) -> MeanIoU:
    shape = (pairs.predictions, pairs.targets)
    chosen = best_assignment(pairs.prediction, pairs.target, pairs.iou, shape)
    return MeanIoU(float(pairs.iou[chosen].sum()), pairs.present)


def _restrict(pairs: Overlaps, kept: np.ndarray) -> Overlaps:
    """Only the pairs of the predictions that are kept (their indices stay)."""
    use = kept[pairs.prediction]
    return Overlaps(
        pairs.prediction[use], pairs.target[use], pairs.iou[use], pairs.predictions, pairs.targets, pairs.present
    )


def _matches(pairs: Overlaps, kept: np.ndarray, share: np.ndarray) -> Matches:
    use = kept[pairs.prediction] & (pairs.iou >= 0.5)
    shape = (pairs.predictions, pairs.targets)
    matched = maximum_matching(pairs.prediction[use], pairs.target[use], shape) >= 0
    counted = kept & (matched | (share < 0.5))
    return Matches(int(matched.sum()), int(counted.sum()), pairs.present)
