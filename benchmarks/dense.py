"""The operators as papers' code writes them: every point against every pixel, as tensors of (points, pixels).

What they give is the operators' own answer; that it takes N x H x W numbers is the point. :func:`energy_passes` is the
published form of the energy masks, a pass over the whole image for each point.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.scenes import STRIDE, Scene
from crowdseg.ops.circles import RIM_SLACK

EXACT = "donot_use_mm_for_euclid_dist"  # a product of matrices loses the distances near 0
MIN_RADIUS = 3.0
NEAR, FAR = 0.5, 1.0  # threshold - margin, threshold + 4 margin
GEOMETRY_WEIGHT, ENERGY_THRESHOLD = 0.6, 0.8
KERNEL_SIZE, SIGMA = 7, 1.5


def radii(scene: Scene) -> Tensor:
    """Of one image's points among the whole crowd, in which they come first."""
    distance = torch.cdist(scene.points, scene.crowd[0], compute_mode=EXACT)
    return distance.fill_diagonal_(torch.inf).amin(1).clamp(MIN_RADIUS, scene.max_radius)


def exclusion_labels(scene: Scene) -> Tensor:
    maps = []
    for points, reach in zip(scene.places, scene.radii.view(scene.batch, -1), strict=True):
        distance2 = _squared_distance(points, scene.size)
        distance2[~_inside(distance2, reach)] = torch.inf
        maps.append(_label(*distance2.min(0), torch.inf))
    return torch.stack(maps).view(scene.batch, *scene.size)


def center_features(scene: Scene) -> tuple[Tensor, Tensor]:
    """Features and, for a gradient of ones, the embedding's gradient."""
    embedding = scene.embedding.clone().requires_grad_()
    limit = scene.places.new_tensor([scene.size[1] - 1, scene.size[0] - 1])
    grid = (2 * scene.places / limit - 1)[:, None]
    read = F.grid_sample(_feature_map(embedding, scene.size), grid, padding_mode="border", align_corners=True)
    features = read[:, :, 0].transpose(1, 2).reshape(-1, embedding.shape[1])
    features.sum().backward()
    assert embedding.grad is not None
    return features.detach(), embedding.grad


def pull_push(scene: Scene) -> tuple[Tensor, Tensor]:
    """The loss and the embedding's gradient."""
    embedding = scene.embedding.clone().requires_grad_()
    total = embedding.new_zeros(())
    for points, labels, features in zip(
        scene.places, scene.labels, _feature_map(embedding, scene.size).flatten(2), strict=True
    ):
        reach = torch.cdist(points, points, compute_mode=EXACT).fill_diagonal_(torch.inf).amin(1)
        inside = _inside(_squared_distance(points, scene.size), reach.clamp(MIN_RADIUS, scene.max_radius))
        pixel = points.round().long()
        pixel = pixel[:, 1] * scene.size[1] + pixel[:, 0]
        own = labels.flatten()[pixel, None]
        distance = torch.cdist(features.T[pixel], features.T, compute_mode=EXACT)
        pull, push = inside & (labels.flatten() == own), inside & (labels.flatten() != own)
        kept = (own[:, 0] > 0) & pull.any(1)
        loss = _mean((distance - NEAR).relu(), pull) + _mean((FAR - distance).relu(), push)
        total = total + (loss * kept).sum() / kept.sum().clamp(min=1) / scene.batch
    total.backward()
    assert embedding.grad is not None
    return total.detach(), embedding.grad


def energy_labels(scene: Scene) -> Tensor:
    maps = []
    feature_maps = _feature_map(scene.embedding, scene.size)
    for points, reach, features in zip(scene.places, scene.radii.view(scene.batch, -1), feature_maps, strict=True):
        centers = _read(features, points)
        distance2 = _squared_distance(points, scene.size)
        energy = torch.cdist(centers, features.flatten(1).T, compute_mode=EXACT)
        energy += GEOMETRY_WEIGHT * distance2 / reach[:, None] ** 2
        energy[~_inside(distance2, reach)] = torch.inf
        maps.append(_label(*energy.min(0), ENERGY_THRESHOLD))
    return torch.stack(maps).view(scene.batch, *scene.size)


def energy_passes(scene: Scene) -> Tensor:
    """As :func:`energy_labels`, with the memory of one image and a pass over all of it for each point."""
    labels = torch.zeros(scene.batch, *scene.size, dtype=torch.int32, device=scene.places.device)
    for image, features in enumerate(_feature_map(scene.embedding, scene.size)):
        centers = _read(features, scene.places[image])
        best = torch.full(scene.size, ENERGY_THRESHOLD, device=labels.device)
        reaches = scene.radii.view(scene.batch, -1)[image]
        for index, (point, reach, center) in enumerate(zip(scene.places[image], reaches, centers, strict=True)):
            distance2 = _squared_distance(point[None], scene.size).view(scene.size)
            energy = (features - center[:, None, None]).norm(dim=0) + GEOMETRY_WEIGHT * distance2 / reach**2
            better = (energy < best) & (distance2 <= reach**2 * (1 + RIM_SLACK))
            best = torch.where(better, energy, best)
            labels[image] = torch.where(better, index + 1, labels[image])
    return labels


def p2r_targets(scene: Scene) -> tuple[Tensor, Tensor]:
    """In float64, as the operator: a target is one cell or another, and no rounding should decide which."""
    targets, owners = torch.zeros_like(scene.logits), torch.zeros_like(scene.logits, dtype=torch.int32)
    rows, columns = (torch.arange(n, device=targets.device) for n in targets.shape[1:])
    cells = torch.cartesian_prod(rows, columns).flip(1).double() * STRIDE + (STRIDE - 1) / 2
    for image, points in enumerate(scene.places.double()):
        distance = torch.cdist(cells, points, compute_mode=EXACT)
        least, owner = distance.min(1)
        own = (torch.arange(len(points), device=owner.device) == owner[:, None]) & (least < 96)[:, None]
        region = torch.where(own, distance, 0).amax(0).clamp(8, 96)
        cost = 8 * distance / region - scene.logits[image].double().flatten()[:, None]
        matched = torch.where(own, cost, torch.inf).argmin(0)[own.any(0)]
        targets[image].view(-1)[matched] = 1
        owners[image] = torch.where(least < 96, owner + 1, 0).view(targets.shape[1:])
    return targets, owners


def _feature_map(embedding: Tensor, size: tuple[int, int]) -> Tensor:
    """``(B, D, h, w)`` -> ``(B, D, H, W)``: upsampled bilinearly, then blurred along each axis."""
    offset = torch.arange(KERNEL_SIZE, device=embedding.device) - KERNEL_SIZE // 2
    taps = torch.exp(-0.5 * (offset / SIGMA) ** 2)
    taps = (taps / taps.sum()).expand(embedding.shape[1], 1, 1, -1)
    wide = F.interpolate(embedding, size=size, mode="bilinear", align_corners=False)
    wide = F.conv2d(wide, taps, padding=(0, KERNEL_SIZE // 2), groups=len(taps))
    return F.conv2d(wide, taps.mT, padding=(KERNEL_SIZE // 2, 0), groups=len(taps))


def _read(features: Tensor, points: Tensor) -> Tensor:
    """``(D, H, W)`` bilinearly at the points, ``(N, D)``."""
    limit = points.new_tensor([features.shape[2] - 1, features.shape[1] - 1])
    grid = (2 * points / limit - 1)[None, None]
    return F.grid_sample(features[None], grid, padding_mode="border", align_corners=True)[0, :, 0].T


def _squared_distance(points: Tensor, size: tuple[int, int]) -> Tensor:
    """``(N, H W)``, px^2."""
    y, x = (torch.arange(n, device=points.device) for n in size)
    dx2, dy2 = (x - points[:, :1]) ** 2, (y - points[:, 1:]) ** 2
    return (dy2[:, :, None] + dx2[:, None, :]).flatten(1)


def _inside(distance2: Tensor, reach: Tensor) -> Tensor:
    return distance2 <= reach[:, None] ** 2 * (1 + RIM_SLACK)


def _label(least: Tensor, index: Tensor, threshold: float) -> Tensor:
    """1 + the index where ``least`` is below the threshold, else 0."""
    return torch.where(least < threshold, index + 1, 0).to(torch.int32)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of each row's chosen values, 0 where there are none."""
    return (values * chosen).sum(1) / chosen.sum(1).clamp(min=1)
