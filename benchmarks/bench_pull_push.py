"""Pull/push loss, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchmarks import dense
from benchmarks.agreement import HINGE_ROUNDING, near
from benchmarks.common import Options, Report
from benchmarks.compare import Operator, compare
from benchmarks.scenes import Scene, usual_scenes
from crowdseg import ops
from crowdseg.ops.pull_push import pull_push_loss_torch

Pair = tuple[Tensor, Tensor]


def run(options: Options) -> Report:
    operator = Operator(
        "Pull/push loss, forward + backward",
        pull_push,
        agree,
        # the embedding, its gradient, and the labels
        compulsory=lambda scene: 8 * scene.embedding.numel() + 4 * scene.batch * scene.size[0] * scene.size[1],
        reference=pull_push_loss_torch,
        compiled=compiled,
        others={"dense": dense.pull_push},
        dense=["dense"],
    )
    return compare(operator, usual_scenes(options.quick, options.device), options)


def pull_push(scene: Scene) -> Pair:
    embedding = scene.embedding.clone().requires_grad_()
    loss = ops.pull_push_loss(embedding, scene.points, scene.labels, scene.batch_index)
    loss.backward()
    assert embedding.grad is not None
    return loss.detach(), embedding.grad


def compiled(function: Callable[..., Any], scene: Scene) -> Pair:
    """The reference makes the gradient beside the loss."""
    tensors = (scene.embedding, scene.points, scene.labels, scene.valid, scene.batch_index)
    return function(
        *tensors, 0.6, 0.1, dense.KERNEL_SIZE, dense.SIGMA, dense.MIN_RADIUS, scene.max_radius, need_grad=True
    )


def agree(found: Pair, expected: Pair, _: Scene) -> None:
    near(found[0], expected[0])
    near(found[1], expected[1], HINGE_ROUNDING)
