"""Ragged batches: the points of B images in one ``(N, 2)`` tensor, and each point's image in ``batch_index`` ``(N,)``,
in any order."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crowdseg.ops.checks import require
from crowdseg.ops.precision import exact


def check_values(points: Tensor, batch_index: Tensor, batch_size: int | None) -> int:
    """Returns the number of images: ``batch_size``, or where that is None one more than the highest index.

    Raises:
        UsageError: a coordinate is NaN or infinite, or an image index is outside ``[0, batch_size)``.
    """
    if len(points) == 0:
        return batch_size or 0
    # One look at the device. A sum is finite only if all coordinates are; where it is not, it may just have overflown.
    low, high = torch.aminmax(batch_index)
    total, low, high = torch.stack([points.sum(dtype=exact(points[:0]).dtype), low, high]).tolist()
    require(
        math.isfinite(total) or bool(torch.isfinite(points).all()),
        "points holds NaN or infinite coordinates; drop those points first",
    )
    batch_size = int(high) + 1 if batch_size is None else batch_size
    require(low >= 0 and high < batch_size, f"batch_index must be in [0, {batch_size}), got {int(low)} to {int(high)}")
    return batch_size


class Grouped(NamedTuple):
    """The points of B images, image after image, as the kernels take them."""

    points: Tensor  # (N, 2) float64
    offsets: Tensor  # (B + 1,) int64: image b has the points offsets[b] to offsets[b + 1]
    order: Tensor | None  # (N,) int64, where each point was; None where the order has not changed

    @classmethod
    def of(cls, points: Tensor, batch_index: Tensor, batch_size: int | None = None) -> "Grouped":
        """Raises what :func:`check_values` raises."""
        batch_size = check_values(points, batch_index, batch_size)
        if batch_size <= 1:
            offsets = torch.zeros(batch_size + 1, dtype=torch.int64, device=points.device)
            offsets[1:] = len(points)
            return cls(exact(points), offsets, None)
        images, order = batch_index.sort(stable=True)
        return cls(
            exact(points)[order], torch.searchsorted(images, torch.arange(batch_size + 1, device=images.device)), order
        )

    def sort(self, values: Tensor) -> Tensor:
        """Values ``(N, ...)`` per point, in the order of ``points``."""
        return values if self.order is None else values[self.order]

    def restore(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`sort`."""
        return values if self.order is None else torch.empty_like(values).index_copy_(0, self.order, values)


def group_by_image(points: Tensor, batch_index: Tensor, batch_size: int) -> list[Tensor]:
    """The indices of each image's points, ascending: B tensors of int64.

    Raises:
        UsageError: what :func:`check_values` refuses.
    """
    check_values(points, batch_index, batch_size)
    if len(points) == 0:
        return [batch_index] * batch_size
    order = batch_index.argsort(stable=True)
    return list(order.split(torch.bincount(batch_index, minlength=batch_size).tolist()))


def index_within_image(groups: list[Tensor], points: Tensor) -> Tensor:
    """Each point's index among the points of its own image, ``(N,)`` int64."""
    rank = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    for group in groups:
        rank[group] = torch.arange(len(group), device=rank.device)
    return rank


def nearest_pixel(points: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixel of an ``(H, W)`` image nearest to each point, ``(N, 2)`` int64 as (x, y); halves round to even."""
    limit = torch.tensor([size[1] - 1, size[0] - 1], device=points.device)
    return torch.minimum(exact(points).round().clamp(min=0), limit).to(torch.int64)
