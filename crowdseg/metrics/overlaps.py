"""Which masks overlap, and by how much, without a dense matrix of all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from crowdseg import rle
from crowdseg.structures import RLE, LabelMap

CHUNK = 256  # predictions whose boxes are compared with all targets at once


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


def overlaps(
    prediction: LabelMap | list[RLE], target: LabelMap | list[RLE], predictions: int | None = None
) -> Overlaps:
    """Overlapping pairs of two sets of masks of one image.

    Args:
        prediction: ``(H, W)`` label map (n + 1 the n-th mask) or a list of masks that may overlap.
        target: the same for the truth.
        predictions: number of predictions where the last ones may own no pixel of the label map.

    Raises:
        ValueError: the sizes differ.
    """
    if isinstance(prediction, np.ndarray) and isinstance(target, np.ndarray):
        return _from_labels(prediction, target, predictions)
    if isinstance(prediction, np.ndarray):
        prediction = rle.from_label_map(prediction, _number(prediction) if predictions is None else predictions)
    if isinstance(target, np.ndarray):
        target = rle.from_label_map(target, _number(target))
    return _from_rles(prediction, target)


def _number(labels: LabelMap) -> int:
    return int(labels.max(initial=0))


def _from_labels(prediction: LabelMap, target: LabelMap, predictions: int | None) -> Overlaps:
    if prediction.shape != target.shape:
        raise ValueError(f"expected label maps of one size, got {prediction.shape} and {target.shape}")
    n_prediction, n_target = _number(prediction), _number(target)
    # A histogram of label pairs, over runs of equal pairs rather than pixels.
    codes = prediction.ravel().astype(np.int64) * (n_target + 1) + target.ravel()
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])) if codes.size else np.zeros(0, int)
    lengths = np.diff(np.append(starts, codes.size))
    pairs, inverse = np.unique(codes[starts], return_inverse=True)
    shared = np.bincount(inverse.ravel(), lengths, len(pairs)) if len(pairs) else np.zeros(0)
    first, second = np.divmod(pairs, n_target + 1)
    area_prediction = np.bincount(first, shared, n_prediction + 1)
    area_target = np.bincount(second, shared, n_target + 1)
    both = (first > 0) & (second > 0)
    first, second, shared = first[both], second[both], shared[both]
    iou = shared / (area_prediction[first] + area_target[second] - shared)
    count = n_prediction if predictions is None else predictions
    return Overlaps(first - 1, second - 1, iou, count, n_target, int((area_target[1:] > 0).sum()))


def _from_rles(prediction: list[RLE], target: list[RLE]) -> Overlaps:
    sizes = {tuple(mask["size"]) for mask in [*prediction, *target]}
    if len(sizes) > 1:
        raise ValueError(f"expected masks of one size, got {sorted(sizes)}")
    rows, columns, ious = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for row, candidates in _near(rle.boxes(prediction), rle.boxes(target)):
        iou = coco_mask.iou([prediction[row]], [target[c] for c in candidates], [0] * len(candidates))[0]
        hit = iou > 0
        rows.append(np.full(hit.sum(), row))
        columns.append(candidates[hit])
        ious.append(iou[hit])
    return Overlaps(
        np.concatenate(rows),
        np.concatenate(columns),
        np.concatenate(ious),
        len(prediction),
        len(target),
        int((rle.area(target) > 0).sum()),
    )


def _near(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each box of ``first`` that meets any box of ``second``: its index and theirs, ascending."""
    left, top, right, bottom = second.T
    for start in range(0, len(first), CHUNK):
        x0, y0, x1, y1 = first[start : start + CHUNK].T[..., None]
        meet = (x0 < right) & (left < x1) & (y0 < bottom) & (top < y1)
        for row in np.flatnonzero(meet.any(1)):
            yield start + row, np.flatnonzero(meet[row])


def ignored_share(prediction: LabelMap | list[RLE], regions: list[RLE], predictions: int | None = None) -> np.ndarray:
    """``(N,)`` the largest share of each prediction that lies inside one of the ignored regions."""
    if isinstance(prediction, np.ndarray):
        number = _number(prediction) if predictions is None else predictions
        prediction = rle.from_label_map(prediction, number) if regions else [{}] * number
    if not regions or not prediction:
        return np.zeros(len(prediction))
    return np.asarray(coco_mask.iou(prediction, regions, [1] * len(regions))).max(axis=1)
