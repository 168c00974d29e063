"""XMask with one of its ideas taken out or done in another way, for ``bench_accuracy``."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from crowdseg.methods.pseudo import Detections, circle_radii
from crowdseg.methods.xmask import Target, XMask
from crowdseg.models import OUTPUT_STRIDE, Output
from crowdseg.structures import Size

_RADIUS = 32.0  # px, of everybody, where circles do not follow the crowd
_DRAWN = 50  # people per image that the published code draws at least


class WithoutCircles(XMask):
    """Everybody may claim pixels within the same radius, however near the neighbours are."""

    def _draw(
        self, embedding: Tensor, people: Detections, size: Size, whole: Tensor | None, radii: Tensor | None = None
    ) -> Tensor:
        return super()._draw(embedding, people, size, whole, torch.full_like(people.probability, _RADIUS))


class EveryFew(XMask):
    """Of N candidates in an image every (N // 50)-th is drawn, as in the published code."""

    def _draw(
        self, embedding: Tensor, people: Detections, size: Size, whole: Tensor | None, radii: Tensor | None = None
    ) -> Tensor:
        counts = torch.bincount(people.batch_index, minlength=len(embedding))
        rank = torch.arange(len(people.points)) - (counts.cumsum(0) - counts)[people.batch_index]
        drawn = rank % (counts // _DRAWN).clamp(min=1)[people.batch_index] == 0
        radii = circle_radii(people.points, people.batch_index, size)[drawn]
        return super()._draw(embedding, people.select(drawn), size, None if whole is None else whole[drawn], radii)


class Overlapping(XMask):
    """Masks do not compete: each is painted over those of smaller indices, as in the published code."""

    def _draw(
        self, embedding: Tensor, people: Detections, size: Size, whole: Tensor | None, radii: Tensor | None = None
    ) -> Tensor:
        radii = circle_radii(people.points, people.batch_index, size)
        labels = torch.zeros(len(embedding), *size, dtype=torch.int32)
        for image in range(len(embedding)):
            mine = people.batch_index == image
            labels[image] = self._paint(
                embedding[image], people.select(mine), radii[mine], size, None if whole is None else whole[mine]
            )
        return labels

    def _paint(self, embedding: Tensor, people: Detections, radii: Tensor, size: Size, whole: Tensor | None) -> Tensor:
        if not len(people.points):
            return torch.zeros(size, dtype=torch.int32)
        alone = Detections(people.points, people.probability, torch.arange(len(people.points)))
        images = embedding.expand(len(people.points), -1, -1, -1).contiguous()
        masks = super()._draw(images, alone, size, whole, radii) > 0
        order = torch.arange(1, len(masks) + 1, dtype=torch.int32)
        return (masks * order[:, None, None]).amax(0)


class AtCells(XMask):
    """Features at the cell that holds a point, not at the point."""

    def _losses(self, output: Output, target: Target, weights: dict[str, float]) -> dict[str, Tensor]:
        cells = torch.floor((target.seeds.points + 0.5) / OUTPUT_STRIDE)
        middles = cells * OUTPUT_STRIDE + (OUTPUT_STRIDE - 1) / 2
        return super()._losses(output, replace(target, seeds=replace(target.seeds, points=middles)), weights)
