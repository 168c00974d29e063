"""Point-to-region targets: one cell per person, and the person each cell belongs to."""

import numpy as np
import torch
from torch import Tensor

from crowdseg import _native
from crowdseg.ops.batching import Grouped, group_by_image
from crowdseg.ops.checks import check_clamp, check_float_map, check_points, check_size, require
from crowdseg.ops.circles import Claims
from crowdseg.ops.precision import compute_dtype


def p2r_targets(
    logits: Tensor,
    points: Tensor,
    stride: int,
    batch_index: Tensor | None = None,
    *,
    min_radius: float = 8.0,
    max_radius: float = 96.0,
    point_cost: float = 8.0,
    class_cost: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Match each point to one cell of its region (xmask section 6).

    Cell i lies at ``a_i = cell * stride + (stride - 1) / 2`` and belongs to its nearest point if closer than
    ``max_radius``. A point's region has radius ``R``, the distance of its farthest cell clamped to ``[min_radius,
    max_radius]``. Its target is the own cell of least ``point_cost |a - b| / R - class_cost logit``. Ties: a cell
    belongs to the point of smaller index, a point takes the cell that comes first, row by row.

    Args:
        logits: ``(B, h, w)`` floats.
        points: ``(N, 2)`` floats as (x, y), pixels of the full image.
        stride: pixels per cell.
        batch_index: ``(N,)`` the image of each point; None for one image.
        min_radius, max_radius: pixels.
        point_cost, class_cost: weights of distance and logit.

    Returns:
        Targets ``(B, h, w)`` in the type of ``logits``, 1 at matched cells, else 0; and owners ``(B, h, w)`` int32,
        0 where no point is near enough, else 1 + the point's index within its image. Points that own no cell have no
        target. No gradient.

    Raises:
        UsageError: wrong shapes or types, coordinates that are not finite, an image index outside the batch.
    """
    batch_index = check_points(points, batch_index)
    check_float_map("logits", logits, "B, h, w", points)
    check_size((logits.shape[1], logits.shape[2]))
    require(stride >= 1, f"stride must be at least 1, got {stride}")
    check_clamp(min_radius, max_radius)
    return _op(logits.detach(), points.detach(), batch_index, stride, min_radius, max_radius, point_cost, class_cost)


def p2r_targets_torch(
    logits: Tensor,
    points: Tensor,
    batch_index: Tensor,
    stride: int,
    min_radius: float,
    max_radius: float,
    point_cost: float,
    class_cost: float,
) -> tuple[Tensor, Tensor]:
    """Reference: one k-d tree per image, on the CPU in float64."""
    groups = group_by_image(points, batch_index, len(logits))
    _, height, width = logits.shape
    grid = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([grid[1], grid[0]], -1).reshape(-1, 2).double() * stride + (stride - 1) / 2
    targets = torch.zeros(logits.shape, dtype=logits.dtype)
    owners = torch.zeros(logits.shape, dtype=torch.int32)
    for image, group in enumerate(groups):
        if len(group) == 0:
            continue
        own = points[group].detach().cpu().double()
        owner = torch.from_numpy(_nearest_point(cells.numpy(), own.numpy(), max_radius))
        owners[image] = (owner + 1).view(height, width)
        cell = (owner >= 0).nonzero().squeeze(1)
        owner = owner[cell]
        distance = (cells[cell] - own[owner]).square().sum(1).sqrt()
        region = torch.zeros(len(own), dtype=torch.float64).scatter_reduce_(0, owner, distance, "amax")
        cost = point_cost * distance / region.clamp(min_radius, max_radius)[owner]
        cost -= class_cost * logits[image].detach().cpu().double().flatten()[cell]
        matches = Claims(len(own), like=cost[:0])
        matches.add(owner, cost, cell)
        targets[image].view(-1)[matches.owner[matches.owner >= 0]] = 1
    return targets.to(logits.device), owners.to(logits.device)


def _nearest_point(cells: np.ndarray, points: np.ndarray, max_distance: float) -> np.ndarray:
    """``(M, 2)`` cells, ``(n, 2)`` points -> ``(M,)`` int64: the nearest point's index (the smallest of equally near
    ones), -1 where none is closer than ``max_distance``."""
    from scipy.spatial import cKDTree  # by the reference alone: half a second of every command's start

    places, first = np.unique(points, axis=0, return_index=True)
    tree = cKDTree(places)
    distance, nearest = tree.query(cells, k=[1, 2], distance_upper_bound=max_distance)
    owner = np.append(first, -1)[nearest[:, 0]]
    # The tree breaks ties as it likes. Where there are any, look at all points of that distance.
    tied = np.flatnonzero(np.isfinite(distance[:, 1]) & (distance[:, 0] >= distance[:, 1] * (1 - 1e-12)))
    for cell, close in zip(tied, tree.query_ball_point(cells[tied], distance[tied, 1] * (1 + 1e-12)), strict=True):
        square = ((places[close] - cells[cell]) ** 2).sum(1)
        owner[cell] = first[close][square == square.min()].min()
    return owner.astype(np.int64)


def p2r_targets_native(
    logits: Tensor,
    points: Tensor,
    batch_index: Tensor,
    stride: int,
    min_radius: float,
    max_radius: float,
    point_cost: float,
    class_cost: float,
) -> tuple[Tensor, Tensor]:
    """The kernel: each cell looks round itself on a grid of the points."""
    grouped = Grouped.of(points, batch_index, len(logits))
    wide = logits.to(compute_dtype(logits.dtype))
    targets, owners = wide.new_empty(wide.shape), wide.new_empty(wide.shape, dtype=torch.int32)
    settings = (stride, min_radius, max_radius, point_cost, class_cost)
    _native.run("p2r_targets", points.device, grouped, wide, *settings, targets, owners)
    return targets.to(logits.dtype), owners


_op = torch.library.custom_op("crowdseg::p2r_targets", p2r_targets_torch, mutates_args=())


@_op.register_fake
def _(logits, points, batch_index, *settings):
    return logits.new_empty(logits.shape), logits.new_empty(logits.shape, dtype=torch.int32)


_native.attach(_op, p2r_targets_torch, p2r_targets_native)
