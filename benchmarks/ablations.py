"""XMask with one of its ideas taken out or done in another way, for ``bench_accuracy``."""

from __future__ import annotations

import torch
from torch import Tensor

from crowdseg import ops
from crowdseg.methods.pseudo import Detections, circle_radii
from crowdseg.methods.xmask import XMask

_RADIUS = 32.0  # px, of everybody, where circles do not follow the crowd
_DRAWN = 50  # people per image that the published code draws at least


class WithoutCircles(XMask):
    """Everybody may claim pixels within the same radius, however near the neighbours are."""

    def _draw(self, embedding: Tensor, people: Detections, size: tuple[int, int], whole: Tensor | None) -> Tensor:
        return _energy_labels(self, embedding, people, torch.full_like(people.probability, _RADIUS), size, whole)


class EveryFew(XMask):
    """Of N candidates in an image every (N // 50)-th is drawn, as in the published code."""

    def _draw(self, embedding: Tensor, people: Detections, size: tuple[int, int], whole: Tensor | None) -> Tensor:
        counts = torch.bincount(people.batch_index, minlength=len(embedding))
        rank = torch.arange(len(people.points)) - (counts.cumsum(0) - counts)[people.batch_index]
        drawn = rank % (counts // _DRAWN).clamp(min=1)[people.batch_index] == 0
        radii = circle_radii(people.points, people.batch_index, size)[drawn]
        return _energy_labels(
            self, embedding, people.select(drawn), radii, size, None if whole is None else whole[drawn]
        )


class Overlapping(XMask):
    """Masks do not compete: each is painted over those of smaller indices, as in the published code."""

    def _draw(self, embedding: Tensor, people: Detections, size: tuple[int, int], whole: Tensor | None) -> Tensor:
        radii = circle_radii(people.points, people.batch_index, size)
        labels = torch.zeros(len(embedding), *size, dtype=torch.int32)
        for image in range(len(embedding)):
            mine = people.batch_index == image
            labels[image] = self._paint(
                embedding[image], people.select(mine), radii[mine], size, None if whole is None else whole[mine]
            )
        return labels

    def _paint(
        self, embedding: Tensor, people: Detections, radii: Tensor, size: tuple[int, int], whole: Tensor | None
    ) -> Tensor:
        if not len(people.points):
            return torch.zeros(size, dtype=torch.int32)
        alone = Detections(people.points, people.probability, torch.arange(len(people.points)))
        images = embedding.expand(len(people.points), -1, -1, -1).contiguous()
        masks = _energy_labels(self, images, alone, radii, size, whole) > 0
        order = torch.arange(1, len(masks) + 1, dtype=torch.int32)
        return (masks * order[:, None, None]).amax(0)


class AtCells(XMask):
    """Features at the cell that holds a point, not at the point."""

    def _losses(self, output, target, weights):  # type: ignore[no-untyped-def]
        if "pull_push" in weights:
            seeds = target.seeds
            points = torch.floor((seeds.points + 0.5) / 4) * 4 + 1.5
            target.seeds = Detections(points, seeds.probability, seeds.batch_index)
        return super()._losses(output, target, weights)


def _energy_labels(
    method: XMask, embedding: Tensor, people: Detections, radii: Tensor, size: tuple[int, int], whole: Tensor | None
) -> Tensor:
    c = method.config
    return ops.energy_labels(
        embedding,
        people.points,
        radii,
        size,
        people.batch_index,
        geometry_weight=c.geometry_weight,
        energy_threshold=c.energy_threshold,
        claim_circle=whole,
        sigma=c.sigma,
    )
