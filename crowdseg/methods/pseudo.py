"""Pseudo-labels from a network's output (spec section 5), ragged over the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crowdseg import ops
from crowdseg.models import OUTPUT_STRIDE
from crowdseg.ops.batching import nearest_pixel

MIN_RADIUS = 3.0
MAX_RADIUS_FACTOR = 0.5
REACH_OF_BLUR = 32  # pixels, with room to spare: beyond it an embedding cell has no part in a pixel's features


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


def person_labels_of_columns(
    embedding: Tensor,
    found: Detections,
    radii: Tensor,
    size: tuple[int, int],
    columns: tuple[int, int],
    most: int | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """What :func:`person_labels` gives on the columns from a to b of one image, drawn without the others.

    Args:
        embedding: ``(1, D, H / 4, W / 4)`` of the whole image.
        found, radii: all people of the image, and the radii of their circles.
        size: ``(H, W)`` of the whole image.
        columns: (a, b) in pixels.
        most: pixels that may be drawn, the columns of the points whose circles reach in being among them.
        **settings: as for :func:`person_labels`.

    Returns:
        Labels ``(H, b - a)`` int32, n + 1 for the n-th of those whose circles reach in; their indices.

    Raises:
        OverflowError: more than ``most`` pixels would have to be drawn.
    """
    x = found.points[:, 0]
    near = torch.nonzero((x + radii > columns[0] - 1) & (x - radii < columns[1])).squeeze(1)
    people = found.select(near)
    ends = torch.cat([people.points[:, 0], people.points.new_tensor([columns[0], columns[1] - 1])])
    left = max(int(ends.min()) - REACH_OF_BLUR, 0) // OUTPUT_STRIDE
    right = min(-(-(int(ends.max()) + REACH_OF_BLUR) // OUTPUT_STRIDE), size[1] // OUTPUT_STRIDE)
    start, width = left * OUTPUT_STRIDE, (right - left) * OUTPUT_STRIDE
    if most is not None and size[0] * width > most:
        raise OverflowError(f"{size[0]} x {width} pixels would have to be drawn at once, and {most} are allowed")
    people.points = people.points - people.points.new_tensor([start, 0])
    part = embedding[..., left:right].contiguous()
    labels = person_labels(part, people, (size[0], width), radii=radii[near], **settings)
    return labels[0, :, columns[0] - start : columns[1] - start], near


def circle_radii(points: Tensor, batch_index: Tensor, size: tuple[int, int]) -> Tensor:
    """Radii of the exclusion circles, clamped to [3, min(H, W) / 2] pixels."""
    return ops.nearest_neighbor_radii(
        points, batch_index, min_radius=MIN_RADIUS, max_radius=max(MIN_RADIUS, MAX_RADIUS_FACTOR * min(size))
    )
