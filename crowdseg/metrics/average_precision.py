"""COCO's average precision of instance masks, without its cap on the number of detections."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crowdseg.metrics.overlaps import Overlaps

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


@dataclass
class AveragePrecision:
    """Accumulates scored detections of all images: ``update``, ``compute``, ``reset``.

    Equal to pycocotools' COCOeval (area range "all") as long as that one's cap on detections leaves none out.
    """

    _targets: int = 0
    _scores: list[np.ndarray] = field(default_factory=list)
    _right: list[np.ndarray] = field(default_factory=list)
    _ignored: list[np.ndarray] = field(default_factory=list)

    def update(self, pairs: Overlaps, scores: np.ndarray, ignored_share: np.ndarray | None = None) -> None:
        """Add one image.

        Args:
            pairs: overlaps of its N predictions with the true masks.
            scores: ``(N,)``.
            ignored_share: ``(N,)`` the part of each prediction inside one region left out of scoring; a prediction that
                matches nothing and has at least the threshold of itself there is neither right nor wrong.
        """
        right = greedy_matches(pairs, scores)
        share = np.zeros(len(scores)) if ignored_share is None else ignored_share
        self._targets += pairs.present
        self._scores.append(np.asarray(scores, np.float64))
        self._right.append(right)
        self._ignored.append(~right & (share >= THRESHOLDS[:, None]))

    def compute(self) -> tuple[float | None, float | None]:
        """``(AP, AP50)``: AP averages over the IoU thresholds 0.50:0.05:0.95. None where there is no true mask."""
        if not self._targets:
            return None, None
        scores = np.concatenate(self._scores)
        order = np.argsort(-scores, kind="stable")
        right = np.concatenate(self._right, axis=1)[:, order]
        ignored = np.concatenate(self._ignored, axis=1)[:, order]
        values = [_area(r[~i], self._targets) for r, i in zip(right, ignored, strict=True)]
        return float(np.mean(values)), values[0]

    def reset(self) -> None:
        """Forget all images."""
        self.__init__()  # type: ignore[misc]


def greedy_matches(pairs: Overlaps, scores: np.ndarray) -> np.ndarray:
    """COCO's matching: the best scored prediction first takes the free target it overlaps most.

    Returns:
        ``(T, N)`` bool: whether each prediction has a target at each of :data:`THRESHOLDS`.
    """
    right = np.zeros((len(THRESHOLDS), pairs.predictions), bool)
    taken = np.zeros((len(THRESHOLDS), pairs.targets), bool)
    close = pairs.iou >= THRESHOLDS[0]
    # Per prediction the widest overlap first; among equal ones COCO takes the last target.
    rank = np.lexsort((-pairs.target[close], -pairs.iou[close], np.argsort(_order(scores))[pairs.prediction[close]]))
    for pair in np.flatnonzero(close)[rank]:
        prediction, target = pairs.prediction[pair], pairs.target[pair]
        wins = (pairs.iou[pair] >= THRESHOLDS) & ~right[:, prediction] & ~taken[:, target]
        right[wins, prediction] = True
        taken[wins, target] = True
    return right


def _order(scores: np.ndarray) -> np.ndarray:
    """Best score first, ties in the given order."""
    return np.argsort(-np.asarray(scores, np.float64), kind="stable")


def _area(right: np.ndarray, targets: int) -> float:
    """Area under the interpolated precision-recall curve of detections sorted by score, at 101 recalls."""
    if not len(right):
        return 0.0
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(found / targets, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[np.minimum(at, len(right))].mean())
