"""Pseudo-labels from a network's output (spec section 5), ragged over the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from crowdseg import ops
from crowdseg.models import OUTPUT_STRIDE
from crowdseg.ops.batching import nearest_pixel

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


def detect(logits: Tensor, min_probability: float, *, peaks: bool = False) -> Detections:
    """Cells of ``(B, h, w)`` logits with a probability of at least ``min_probability``, in row order.

    With ``peaks`` only those that none of the eight cells around them exceeds: a person's shoulders are not people.
    """
    probability = logits.detach().float().sigmoid()
    chosen = probability >= min_probability
    if peaks:
        chosen &= probability >= functional.max_pool2d(probability[:, None], 3, 1, 1)[:, 0]
    batch_index, rows, columns = torch.nonzero(chosen, as_tuple=True)
    cells = torch.stack([columns, rows], 1).float()
    points = cells * OUTPUT_STRIDE + (OUTPUT_STRIDE - 1) / 2
    return Detections(points, probability[batch_index, rows, columns], batch_index)


def cell_places(points: Tensor) -> Tensor:
    """Points ``(N, 2)`` in pixels -> in cells, whose integers are the cells' centres."""
    return (points - (OUTPUT_STRIDE - 1) / 2) / OUTPUT_STRIDE


def labels_at_cells(labels: Tensor, people: Detections) -> Tensor:
    """``(B, H, W)`` labels -> ``(B, H/4, W/4)``: those at the cells' middles, and at each person's cell its own.

    Its own is the label of the pixel of its point; without one (0) the cell stays as it is.
    """
    middle = OUTPUT_STRIDE // 2
    at_cells = labels[:, middle::OUTPUT_STRIDE, middle::OUTPUT_STRIDE].clone()
    x, y = nearest_pixel(people.points, (labels.shape[1], labels.shape[2])).unbind(1)
    own = labels[people.batch_index, y, x]
    seen = own > 0
    at_cells[people.batch_index[seen], (y // OUTPUT_STRIDE)[seen], (x // OUTPUT_STRIDE)[seen]] = own[seen]
    return at_cells


def person_labels(
    embedding: Tensor,
    found: Detections,
    size: tuple[int, int],
    *,
    energy_threshold: float,
    geometry_weight: float,
    sigma: float,
    claim_circle: Tensor | None = None,
    radii: Tensor | None = None,
) -> Tensor:
    """Exclusive label maps ``(B, H, W)`` int32 of the detections, by least energy within their circles.

    ``radii`` ``(N,)`` of the circles in pixels, None for :func:`circle_radii`.
    """
    if radii is None:
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
