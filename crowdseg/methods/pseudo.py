"""Pseudo-labels from a network's output (spec section 5), ragged over the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crowdseg import ops
from crowdseg.models import OUTPUT_STRIDE

MIN_RADIUS = 3.0
MAX_RADIUS_FACTOR = 0.5


@dataclass
class Detections:
    """Cells that may be people: ``points`` ``(N, 2)`` pixels, ``probability`` ``(N,)``, ``batch_index`` ``(N,)``."""

    points: Tensor
    probability: Tensor
    batch_index: Tensor

    def select(self, chosen: Tensor) -> Detections:
        return Detections(self.points[chosen], self.probability[chosen], self.batch_index[chosen])


def detect(logits: Tensor, min_probability: float) -> Detections:
    """Cells of ``(B, h, w)`` logits with a probability of at least ``min_probability``, in row order."""
    probability = logits.detach().float().sigmoid()
    batch_index, rows, columns = torch.nonzero(probability >= min_probability, as_tuple=True)
    cells = torch.stack([columns, rows], 1).float()
    points = cells * OUTPUT_STRIDE + (OUTPUT_STRIDE - 1) / 2
    return Detections(points, probability[batch_index, rows, columns], batch_index)


def person_labels(
    embedding: Tensor,
    found: Detections,
    size: tuple[int, int],
    *,
    energy_threshold: float,
    geometry_weight: float,
    sigma: float,
    claim_circle: Tensor | None = None,
) -> Tensor:
    """Exclusive label maps ``(B, H, W)`` int32 of the detections, by least energy within their circles."""
    radii = circle_radii(found.points, found.batch_index, size)
    return ops.energy_labels(
        embedding,
        found.points,
        radii,
        size,
        found.batch_index,
        geometry_weight=geometry_weight,
        energy_threshold=energy_threshold,
        claim_circle=claim_circle,
        sigma=sigma,
    )


def circle_radii(points: Tensor, batch_index: Tensor, size: tuple[int, int]) -> Tensor:
    """Radii of the exclusion circles, clamped to [3, min(H, W) / 2] pixels."""
    return ops.nearest_neighbor_radii(
        points, batch_index, min_radius=MIN_RADIUS, max_radius=max(MIN_RADIUS, MAX_RADIUS_FACTOR * min(size))
    )
