"""Quality of instance masks: Mean IoU C, F1 at IoU 0.5, panoptic quality, boundary F, mask AP."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crowdseg.metrics.average_precision import AveragePrecision
from crowdseg.metrics.boundary import TOLERANCE, Outline, boundary_f
from crowdseg.metrics.matching import Candidates, Matches, best_assignment, maximum_matching, ratio
from crowdseg.metrics.overlaps import Overlaps, ignored_share, overlaps
from crowdseg.metrics.runs import Masks, Runs
from crowdseg.structures import RLE


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
class Panoptic:
    """Panoptic quality of one class: pairs of IoU over 0.5, and the sum of their IoUs; add them to pool images."""

    iou_sum: float = 0.0
    matches: Matches = field(default_factory=Matches)

    def __add__(self, other: Panoptic) -> Panoptic:
        return Panoptic(self.iou_sum + other.iou_sum, self.matches + other.matches)

    @property
    def pq(self) -> float | None:
        """sum of IoUs / (pairs + half of those left alone) = SQ x RQ; None where nobody is on either side."""
        return ratio(2 * self.iou_sum, self.matches.predictions + self.matches.targets)

    @property
    def sq(self) -> float | None:
        """Segmentation quality: mean IoU of the pairs; None without any."""
        return ratio(self.iou_sum, self.matches.matched)

    @property
    def rq(self) -> float | None:
        """Recognition quality: F1 of the pairs."""
        return self.matches.f1


@dataclass(frozen=True)
class ImageInstances:
    """What one image contributes; ``boundary_sum`` is the sum of boundary F over the pairs of Mean IoU C."""

    mean_iou_c: MeanIoU
    matches: Matches  # at IoU 0.5
    panoptic: Panoptic
    boundary_sum: float


@dataclass(frozen=True)
class InstanceResult:
    """Quality of masks over ``images`` images, all values in [0, 1]. A value that is not defined is None.

    Attributes:
        mean_iou_c: sum of IoUs under the Hungarian matching over all images / number of true instances.
        boundary_f: sum of boundary F of the same pairs / number of true instances.
        boundary_tolerance: the distance in pixels within which outlines agree.
        matches: one-to-one matches with IoU of at least 0.5; gives precision, recall, f1.
        panoptic: gives pq, sq and rq.
        ap, ap50: COCO mask AP over IoU 0.50:0.95 and at 0.50, with no cap on the number of detections.
    """

    images: int
    mean_iou_c: float | None
    boundary_f: float | None
    boundary_tolerance: float
    matches: Matches
    panoptic: Panoptic
    ap: float | None
    ap50: float | None


@dataclass
class Instances:
    """Accumulates masks image by image: ``update``, ``compute``, ``reset``."""

    min_score: float = -np.inf
    boundary_tolerance: float = TOLERANCE
    _images: int = 0
    _iou: MeanIoU = field(default_factory=MeanIoU)
    _matches: Matches = field(default_factory=Matches)
    _panoptic: Panoptic = field(default_factory=Panoptic)
    _boundary_sum: float = 0.0
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
            ignore: regions left out: predictions that match nothing and lie in them for the greater part are not wrong.
                AP asks for as much as its threshold of IoU, in one region, as COCO does.

        Returns:
            What this image contributes.
        """
        found, true = Runs.of(prediction, None if scores is None else len(scores)), Runs.of(target)
        pairs, regions = overlaps(found, true), Runs.of(ignore or [])
        scores = np.ones(found.number) if scores is None else np.asarray(scores)
        self._precision.update(pairs, scores, ignored_share(found, regions))
        kept, share = scores > self.min_score, ignored_share(found, regions.union)
        image = self._score(pairs.only(kept[pairs.prediction]), kept, share, found, true)
        self._images += 1
        self._iou += image.mean_iou_c
        self._matches += image.matches
        self._panoptic += image.panoptic
        self._boundary_sum += image.boundary_sum
        return image

    def _score(self, pairs: Overlaps, kept: np.ndarray, share: np.ndarray, found: Runs, true: Runs) -> ImageInstances:
        """All but AP, of the pairs whose predictions are kept."""
        chosen = pairs.only(_best(pairs))
        outlines = Outline.of(found), Outline.of(true)
        boundary = boundary_f(*outlines, (chosen.prediction, chosen.target), self.boundary_tolerance)
        iou = MeanIoU(float(chosen.iou.sum()), pairs.present)
        return ImageInstances(iou, _matches(pairs, kept, share), _panoptic(pairs, kept, share), float(boundary.sum()))

    def compute(self) -> InstanceResult:
        """The values over all images so far."""
        ap, ap50 = self._precision.compute()
        boundary = ratio(self._boundary_sum, self._iou.instances)
        return InstanceResult(
            self._images, self._iou.value, boundary, self.boundary_tolerance, self._matches, self._panoptic, ap, ap50
        )

    def reset(self) -> None:
        """Forget all images."""
        self.__init__(self.min_score, self.boundary_tolerance)  # type: ignore[misc]


def mean_iou_c(prediction: Masks, target: Masks) -> MeanIoU:
    """Mean IoU C of one image: add the results of several images to pool them, and read ``.value``.

    Args:
        prediction: ``(H, W)`` label map (0 background) or a list of masks that may overlap.
        target: the same for the truth.
    """
    pairs = overlaps(Runs.of(prediction), Runs.of(target))
    return MeanIoU(float(pairs.iou[_best(pairs)].sum()), pairs.present)


def _best(pairs: Overlaps) -> np.ndarray:
    """Indices of the pairs of the Hungarian matching."""
    return best_assignment(pairs.prediction, pairs.target, pairs.iou, pairs.shape)


def _matches(pairs: Overlaps, kept: np.ndarray, share: np.ndarray) -> Matches:
    close = pairs.only(pairs.iou >= 0.5)
    matched = maximum_matching(Candidates.of(close.prediction, close.target, close.shape)) >= 0
    return _counted(matched, pairs, kept, share)


def _panoptic(pairs: Overlaps, kept: np.ndarray, share: np.ndarray) -> Panoptic:
    # Exclusive masks meet at most one other by more than half; of those that overlap the best pairs are taken.
    close = pairs.only(pairs.iou > 0.5)
    close = close.only(_best(close))
    matched = np.zeros(pairs.predictions, bool)
    matched[close.prediction] = True
    return Panoptic(float(close.iou.sum()), _counted(matched, pairs, kept, share))


def _counted(matched: np.ndarray, pairs: Overlaps, kept: np.ndarray, share: np.ndarray) -> Matches:
    """Matches, less the unmatched predictions that lie in ignored regions for the greater part."""
    counted = kept & (matched | (share <= 0.5))
    return Matches(int(matched.sum()), int(counted.sum()), pairs.present)
