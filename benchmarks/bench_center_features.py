"""Smoothed features at the points, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchmarks import dense
from benchmarks.agreement import near
from benchmarks.common import Options, Report
from benchmarks.compare import Operator, compare
from benchmarks.scenes import Scene, usual_scenes
from crowdseg import ops
from crowdseg.ops.center_features import smoothed_center_features_torch

Pair = tuple[Tensor, Tensor]


def run(options: Options) -> Report:
    operator = Operator(
        "Smoothed centre features, forward + backward",
        lambda scene: with_gradient(
            scene, lambda e: ops.smoothed_center_features(e, scene.points, scene.size, scene.batch_index)
        ),
        agree,
        compulsory=compulsory,
        reference=smoothed_center_features_torch,
        compiled=compiled,
        others={"dense": dense.center_features},
    )
    return compare(operator, usual_scenes(options.quick, options.device), options)


def with_gradient(scene: Scene, read: Callable[[Tensor], Tensor]) -> Pair:
    """The features and, for a gradient of ones, the embedding's gradient."""
    embedding = scene.embedding.clone().requires_grad_()
    features = read(embedding)
    features.sum().backward()
    assert embedding.grad is not None
    return features.detach(), embedding.grad


def compiled(function: Callable[..., Any], scene: Scene) -> Pair:
    settings = (*scene.size, dense.KERNEL_SIZE, dense.SIGMA)
    return with_gradient(scene, lambda e: function(e, scene.points, scene.batch_index, *settings))


def agree(found: Pair, expected: Pair, _: Scene) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        near(mine, theirs)


def compulsory(scene: Scene) -> int:
    """The 5 x 5 cells around each point or, where those meet, all cells; the features; the gradient as a whole."""
    people, cells = scene.batch * scene.count, scene.embedding.numel()
    depth = scene.embedding.shape[1]
    return 4 * (min(25 * people * depth, cells) + people * depth + cells)
