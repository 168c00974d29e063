"""Exclusion radii: how far each point is from its nearest neighbour."""

import math

import numpy as np
import torch
from torch import Tensor

from crowdseg import _native
from crowdseg.ops.batching import Grouped, group_by_image
from crowdseg.ops.checks import check_clamp, check_points


def nearest_neighbor_radii(
    points: Tensor, batch_index: Tensor | None = None, *, min_radius: float = 3.0, max_radius: float = math.inf
) -> Tensor:
    """Distance from each point to the nearest other point of its image, clamped (xmask section 2).

    Args:
        points: ``(N, 2)`` floats as (x, y), pixels.
        batch_index: ``(N,)`` the image of each point; None for one image.
        min_radius, max_radius: clamp, pixels. A lone point takes ``max_radius``; coincident points take ``min_radius``.
            Where the limits cross, as in tiny images, ``max_radius`` holds.

    Returns:
        ``(N,)`` pixels, in the type of ``points``. No gradient.

    Raises:
        UsageError: wrong shapes or types, a negative limit, coordinates that are not finite.
    """
    batch_index = check_points(points, batch_index)
    check_clamp(min_radius, max_radius)
    return _op(points.detach(), batch_index, min_radius, max_radius)


def nearest_neighbor_radii_torch(points: Tensor, batch_index: Tensor, min_radius: float, max_radius: float) -> Tensor:
    """Reference: one k-d tree per image, on the CPU in float64."""
    distance = torch.full((len(points),), torch.inf, dtype=torch.float64)
    batch_size = int(batch_index.max()) + 1 if len(points) else 0
    places = points.detach().cpu().double().contiguous()
    for group in group_by_image(places, batch_index.cpu(), batch_size):
        distance[group] = torch.from_numpy(_nearest_other(places[group].numpy()))
    return distance.clamp(min_radius, max_radius).to(points.device, points.dtype)


def _nearest_other(points: np.ndarray) -> np.ndarray:
    """``(N, 2)`` -> ``(N,)`` distance to the nearest other point, infinity where there is none."""
    from scipy.spatial import cKDTree  # by the reference alone: half a second of every command's start

    # A tree degenerates where thousands of points coincide, so it holds each place once.
    _, first, place, times = np.unique(
        points.view(np.complex128).ravel(), return_index=True, return_inverse=True, return_counts=True
    )
    distance = np.full(len(first), math.inf)
    if len(first) > 1:
        distance = cKDTree(points[first]).query(points[first], k=2)[0][:, 1]
    return np.where(times > 1, 0.0, distance)[place]


def nearest_neighbor_radii_native(points: Tensor, batch_index: Tensor, min_radius: float, max_radius: float) -> Tensor:
    """The kernel: a uniform grid over each image's points."""
    grouped = Grouped.of(points, batch_index)
    return grouped.restore(grouped_radii(grouped, min_radius, max_radius)).to(points.dtype)


def grouped_radii(grouped: Grouped, min_radius: float, max_radius: float) -> Tensor:
    """``(N,)`` float64, in the order of ``grouped``."""
    radii = grouped.points.new_empty(len(grouped.points))
    _native.run("radii", radii.device, grouped, min_radius, max_radius, radii)
    return radii


_op = torch.library.custom_op("crowdseg::nearest_neighbor_radii", nearest_neighbor_radii_torch, mutates_args=())


@_op.register_fake
def _(points, batch_index, min_radius, max_radius):
    return points.new_empty(len(points))


_native.attach(_op, nearest_neighbor_radii_torch, nearest_neighbor_radii_native)
