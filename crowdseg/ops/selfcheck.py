"""Every operator on a tiny crowd, held against the reference: shows whether a build works on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from crowdseg import ops

SIZE, STRIDE = (40, 56), 4


class _Crowd(NamedTuple):
    """Two images with five and seven people, two of whom stand on one spot."""

    embedding: Tensor  # (2, 16, h, w)
    points: Tensor  # (12, 2)
    batch_index: Tensor  # (12,)
    radii: Tensor  # (12,)
    labels: Tensor  # (2, H, W)

    @classmethod
    def draw(cls) -> _Crowd:
        rng = torch.Generator().manual_seed(0)
        points = torch.rand(12, 2, generator=rng) * torch.tensor([SIZE[1], SIZE[0]])
        points[3] = points[2]
        labels = torch.zeros(2, *SIZE, dtype=torch.int32)
        labels[:, ::2] = torch.randint(0, 4, (2, SIZE[0] // 2, SIZE[1]), generator=rng, dtype=torch.int32)
        return cls(
            embedding=torch.randn(2, 16, SIZE[0] // STRIDE, SIZE[1] // STRIDE, generator=rng) / 4,
            points=points,
            batch_index=torch.tensor([0] * 5 + [1] * 7),
            radii=torch.rand(12, generator=rng) * 12 + 3,
            labels=labels,
        )

    def to(self, device: str) -> _Crowd:
        return _Crowd(*(tensor.to(device) for tensor in self))


def _with_gradient(op: Callable[[Tensor], Tensor], embedding: Tensor) -> tuple[Tensor, ...]:
    embedding = embedding.clone().requires_grad_()
    result = op(embedding)
    # Weights that differ, so that a gradient in the wrong place is seen.
    weights = torch.arange(1, result.numel() + 1, device=result.device).view(result.shape) / result.numel()
    return result.detach(), *torch.autograd.grad((result * weights).sum(), embedding)


_RESULTS: dict[str, Callable[[_Crowd], tuple[Tensor, ...]]] = {
    "nearest_neighbor_radii": lambda c: (ops.nearest_neighbor_radii(c.points, c.batch_index),),
    "exclusion_labels": lambda c: (ops.exclusion_labels(c.points, c.radii, SIZE, c.batch_index, 2),),
    "smoothed_center_features": lambda c: _with_gradient(
        lambda embedding: ops.smoothed_center_features(embedding, c.points, SIZE, c.batch_index), c.embedding
    ),
    "pull_push_loss": lambda c: _with_gradient(
        lambda embedding: ops.pull_push_loss(embedding, c.points, c.labels, c.batch_index), c.embedding
    ),
    "energy_labels": lambda c: (ops.energy_labels(c.embedding, c.points, c.radii, SIZE, c.batch_index),),
    "p2r_targets": lambda c: ops.p2r_targets(c.embedding[:, 0].contiguous(), c.points, STRIDE, c.batch_index),
}


def self_check(device: str, backend: str) -> dict[str, str]:
    """What is wrong with each operator's results and gradients on a device and backend; empty where nothing is."""
    crowd = _Crowd.draw()
    return {name: _compare(results, crowd, device, backend) for name, results in _RESULTS.items()}


def _compare(results: Callable[[_Crowd], tuple[Tensor, ...]], crowd: _Crowd, device: str, backend: str) -> str:
    try:
        with ops.use_backend("torch"):
            expected = results(crowd)
        with ops.use_backend(backend):
            found = tuple(tensor.cpu() for tensor in results(crowd.to(device)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    except AssertionError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"differs from the reference: {'; '.join(lines[1:])}"
    except Exception as error:  # whatever a broken build throws belongs into the report
        return f"{type(error).__name__}: {error}"
    return ""
