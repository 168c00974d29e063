"""Ragged batches: the points of B images in one ``(N, 2)`` tensor, and each point's image in ``batch_index`` ``(N,)``,
in any order."""

import torch
from torch import Tensor

from crowdseg.ops.checks import require
from crowdseg.ops.precision import exact


def group_by_image(points: Tensor, batch_index: Tensor, batch_size: int) -> list[Tensor]:
    """The indices of each image's points, ascending: B tensors of int64.

    Raises:
        UsageError: a coordinate is NaN or infinite, or an image index is outside ``[0, batch_size)``.
    """
    if len(points) == 0:
        return [batch_index] * batch_size
    require(bool(torch.isfinite(points).all()), "points holds NaN or infinite coordinates; drop those points first")
    low, high = (int(value) for value in torch.aminmax(batch_index))
    require(low >= 0 and high < batch_size, f"batch_index must be in [0, {batch_size}), got {low} to {high}")
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
