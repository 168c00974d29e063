"""Scenes and plain, dense references shared by the operators' tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import settings
from torch import Tensor
from torch.nn import functional

from crowdseg import ops

settings.register_profile("ops", deadline=None)  # times vary on shared machines
settings.load_profile("ops")


@dataclass
class Scene:
    """A random ragged batch; the points of its images are mixed up."""

    size: tuple[int, int]
    embedding: Tensor  # (B, D, h, w)
    points: Tensor  # (N, 2)
    batch_index: Tensor  # (N,)
    radii: Tensor  # (N,)
    labels: Tensor  # (B, H, W)
    valid: Tensor  # (B, H, W)
    logits: Tensor  # (B, h, w)
    stride: int


def make_scene(
    counts: tuple[int, ...] = (9, 0, 1, 14),
    cells: tuple[int, int] = (7, 9),
    stride: int = 4,
    depth: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Scene:
    rng = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng, dtype=dtype)

    size = (cells[0] * stride, cells[1] * stride)
    batch = len(counts)
    batch_index = torch.repeat_interleave(torch.tensor(counts))
    batch_index = batch_index[torch.randperm(len(batch_index), generator=rng)]
    # From two pixels outside to two pixels outside, half of them on whole pixels.
    points = random(len(batch_index), 2) * torch.tensor([size[1] + 3, size[0] + 3]) - 2
    points[::2] = points[::2].round()
    radii = ops.nearest_neighbor_radii(points, batch_index, max_radius=min(size) / 2)
    blobs = ops.exclusion_labels(points, radii * 0.6, size, batch_index, batch)
    return Scene(
        size=size,
        embedding=2 * random(batch, depth, *cells) - 1,
        points=points,
        batch_index=batch_index,
        radii=radii,
        labels=blobs,
        valid=random(batch, *size) > 0.2,
        logits=4 * random(batch, *cells) - 2,
        stride=stride,
    )


@pytest.fixture
def scene() -> Scene:
    return make_scene()


@pytest.fixture
def scenes() -> Callable[..., Scene]:
    return make_scene


def dense_feature_map(embedding: Tensor, size: tuple[int, int], kernel_size: int, sigma: float) -> Tensor:
    """F by its definition: interpolate, then convolve with zero padding. ``(B, D, h, w)`` -> ``(B, D, H, W)``."""
    full = functional.interpolate(embedding, size, mode="bilinear", align_corners=False)
    offset = torch.arange(kernel_size, dtype=full.dtype) - kernel_size // 2
    taps = torch.exp(-(offset**2) / (2 * sigma**2))
    taps = taps / taps.sum()
    depth = full.shape[1]
    for shape, padding in (((1, 1, -1, 1), (kernel_size // 2, 0)), ((1, 1, 1, -1), (0, kernel_size // 2))):
        full = functional.conv2d(full, taps.view(shape).repeat(depth, 1, 1, 1), padding=padding, groups=depth)
    return full


@pytest.fixture
def feature_map() -> Callable[..., Tensor]:
    return dense_feature_map
