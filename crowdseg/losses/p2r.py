"""Point-to-region loss: binary cross-entropy of the density head against one cell per person."""

import torch
from torch import Tensor
from torch.nn import functional

from crowdseg.ops.batching import group_by_image
from crowdseg.ops.checks import check_map, check_per_point, check_points, require
from crowdseg.ops.p2r_targets import p2r_targets
from crowdseg.ops.precision import compute_dtype


def p2r_loss(
    logits: Tensor,
    points: Tensor,
    stride: int,
    batch_index: Tensor | None = None,
    *,
    keep: Tensor | None = None,
    confidence: Tensor | None = None,
    min_radius: float = 8.0,
    max_radius: float = 96.0,
    point_cost: float = 8.0,
    class_cost: float = 1.0,
) -> Tensor:
    """Mean over all cells of ``w BCE(logit, T)`` with the targets T of :func:`p2r_targets` (xmask section 6).

    ``w = 1 + T``, times the confidence of the cell's owner. An image without points gives ``mean(0.5 BCE(logit, 0))``.
    Cells that are cut out weigh nothing but count in the mean. The loss of a batch is the mean over its images.

    Args:
        logits: ``(B, h, w)`` floats, positive where a person is.
        points: ``(N, 2)`` floats as (x, y), pixels of the full image.
        stride: pixels per cell.
        batch_index: ``(N,)`` the image of each point; None for one image.
        keep: what a cut-out left, ``(B, h stride, w stride)`` with 1 or True where kept, or ``(B, h, w)`` with the kept
            share of each cell. Cells less than half kept are left out. None keeps all.
        confidence: ``(N,)`` weight of each point; cells without an owner weigh 1. None for all 1.
        min_radius, max_radius, point_cost, class_cost: as in :func:`p2r_targets`.

    Returns:
        A scalar, float64 for float64 logits, else float32. No gradient through the targets.

    Raises:
        UsageError: wrong shapes or types, coordinates that are not finite, an image index outside the batch.
    """
    batch_index = check_points(points, batch_index)
    limits = {"min_radius": min_radius, "max_radius": max_radius, "point_cost": point_cost, "class_cost": class_cost}
    targets, owners = p2r_targets(logits, points, stride, batch_index, **limits)
    logits = logits.to(compute_dtype(logits.dtype))
    weight = (1 + targets).to(logits.dtype)
    if confidence is not None:
        check_per_point("confidence", confidence, points)
        weight = weight * _owners_confidence(owners, points, batch_index, confidence.detach().to(logits.dtype))
    crowded = torch.bincount(batch_index, minlength=len(logits)) > 0
    weight = torch.where(crowded[:, None, None], weight, 0.5)
    if keep is not None:
        weight = weight * (_kept_share(keep, logits, stride) >= 0.5)
    return functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), weight)


def _owners_confidence(owners: Tensor, points: Tensor, batch_index: Tensor, confidence: Tensor) -> Tensor:
    """``(B, h, w)``: the confidence of each cell's owner, 1 where it has none."""
    groups = group_by_image(points, batch_index, len(owners))
    none = confidence.new_ones(1)
    return torch.stack([torch.cat([none, confidence[g]])[own] for g, own in zip(groups, owners, strict=True)])


def _kept_share(keep: Tensor, logits: Tensor, stride: int) -> Tensor:
    """The kept share of each cell, ``(B, h, w)`` in [0, 1]."""
    check_map("keep", keep, "B, H, W", logits)
    share = keep.to(logits.dtype)
    if share.shape != logits.shape:
        share = functional.avg_pool2d(share[:, None], stride)[:, 0]
    require(
        share.shape == logits.shape,
        f"keep {tuple(keep.shape)} does not fit logits {tuple(logits.shape)} at stride {stride}",
    )
    return share
