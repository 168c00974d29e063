"""Inputs of the operators: points, uniform or clustered, and the maps that belong to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from crowdseg import ops

DEPTH, STRIDE = 16, 4  # of the network's embedding
SMALL, LARGE = (256, 256), (1536, 2048)
PER_CLUSTER = 25  # points
SPREAD = 0.03  # a cluster's standard deviation, in image sides


@dataclass(frozen=True, eq=False)
class Scene:
    """B images with the same number of points each. Maps are made when first asked for, and kept.

    Attributes:
        places: ``(B, N, 2)`` as (x, y), pixels.
        crowd: ``(B, M, 2)`` the places of the whole scene, of which this may be the first part.
    """

    size: tuple[int, int]
    layout: str
    places: Tensor
    crowd: Tensor
    embedding: Tensor  # (B, D, h, w), of length 1 at each cell
    logits: Tensor  # (B, h, w)

    @staticmethod
    def make(size: tuple[int, int], batch: int, count: int, layout: str = "uniform", device: str = "cpu") -> Scene:
        random = torch.Generator().manual_seed(count)
        places = torch.rand(batch, count, 2, generator=random)
        if layout == "clustered":
            middles = torch.rand(batch, math.ceil(count / PER_CLUSTER), 2, generator=random)
            members = torch.randint(middles.shape[1], (batch, count, 1), generator=random).expand(-1, -1, 2)
            offsets = SPREAD * torch.randn(batch, count, 2, generator=random)
            places = (middles.gather(1, members) + offsets) % 1  # what leaves on one side enters on the other
        places = places * torch.tensor([size[1] - 1, size[0] - 1])
        cells = (size[0] // STRIDE, size[1] // STRIDE)
        embedding = torch.nn.functional.normalize(torch.randn(batch, DEPTH, *cells, generator=random), dim=1)
        logits = torch.randn(batch, *cells, generator=random)
        return Scene(size, layout, *(tensor.to(device) for tensor in (places, places, embedding, logits)))

    def first(self, count: int) -> Scene:
        """The same images with the first so many points of each."""
        return replace(self, places=self.places[:, :count])

    @property
    def batch(self) -> int:
        return self.places.shape[0]

    @property
    def count(self) -> int:
        return self.places.shape[1]

    @cached_property
    def points(self) -> Tensor:
        """``(B N, 2)``."""
        return self.places.reshape(-1, 2)

    @cached_property
    def batch_index(self) -> Tensor:
        return torch.arange(self.batch, device=self.places.device).repeat_interleave(self.count)

    @cached_property
    def max_radius(self) -> float:
        return 0.5 * min(self.size)

    @cached_property
    def radii(self) -> Tensor:
        """``(B N,)``."""
        return ops.nearest_neighbor_radii(self.points, self.batch_index, max_radius=self.max_radius)

    @cached_property
    def labels(self) -> Tensor:
        """Masks that fill a part of the circles, ``(B, H, W)``."""
        return ops.exclusion_labels(self.points, 0.6 * self.radii, self.size, self.batch_index, self.batch)

    @cached_property
    def valid(self) -> Tensor:
        return torch.ones_like(self.labels, dtype=torch.bool)


def usual_scenes(quick: bool, device: str) -> list[Scene]:
    """Training crops, alone and in batches, with few and many people; and a large crowded image."""
    if quick:
        return [Scene.make(SMALL, 1, 50, "uniform", device)]
    counts, layouts = (10, 50, 200, 1000), ("uniform", "clustered")
    crops = [Scene.make(SMALL, b, n, layout, device) for b in (1, 8) for layout in layouts for n in counts]
    return [*crops, *(Scene.make(LARGE, 1, 5000, layout, device) for layout in layouts)]
