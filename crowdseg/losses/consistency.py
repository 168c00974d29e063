"""Point-mask consistency: every detected person on a mask, every mask with a detected person."""

from typing import NamedTuple

import torch
from torch import Tensor

from crowdseg.losses.instances import Instances, check_label_map
from crowdseg.ops.checks import check_float_map
from crowdseg.ops.precision import compute_dtype


class PointMaskConsistency(NamedTuple):
    """Scalars, means over the images of a batch."""

    loss: Tensor  # trainable
    disagreements: Tensor  # points on background plus instances without a point, as published; for the log only


def point_mask_consistency(logits: Tensor, labels: Tensor) -> PointMaskConsistency:
    """Count disagreements between detections and masks, and their trainable form (end of xmask section 4).

    A cell with ``logit > 0`` is a detected point, at the pixel nearest to its centre. The loss is the sum of
    ``sigmoid(logit)`` over points on background, plus over instances without a point ``1 - max sigmoid(logit)`` of
    their cells, over the number of points and instances (0 without either). An instance that covers no cell centre
    adds a constant 1.

    Args:
        logits: ``(B, h, w)`` floats.
        labels: ``(B, H, W)`` integers of the same field of view, 0 background.

    Raises:
        UsageError: wrong shapes or types.
    """
    check_float_map("logits", logits, "B, h, w", logits)
    check_label_map(labels, logits)
    probability = logits.to(compute_dtype(logits.dtype)).sigmoid()
    rows, columns = (_cell_centers(labels.shape[axis], logits.shape[axis], logits) for axis in (1, 2))
    cell_labels = labels[:, rows][:, :, columns]
    point = logits > 0
    stray = point & (cell_labels == 0)
    present = Instances(labels).present
    cells = Instances(cell_labels, present.shape[1])
    best = cells.max(probability)
    missed = present & (cells.sum(point.to(probability.dtype)) == 0)
    count = stray.sum((1, 2)) + missed.sum(1)
    total = point.sum((1, 2)) + present.sum(1)
    doubt = (probability * stray).sum((1, 2)) + ((1 - best) * missed).sum(1)
    return PointMaskConsistency((doubt / total.clamp(min=1)).mean(), count.to(doubt).mean())


def _cell_centers(pixels: int, cells: int, like: Tensor) -> Tensor:
    """The pixel nearest to each cell's centre along one axis, ``(cells,)`` int64; halves round to even."""
    cell = torch.arange(cells, dtype=torch.float64)
    return ((cell + 0.5) * pixels / cells - 0.5).round().clamp(0, pixels - 1).to(like.device, torch.int64)
