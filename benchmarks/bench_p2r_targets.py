"""Point-to-region targets: one cell per person, and the person each cell belongs to."""

from __future__ import annotations

from torch import Tensor

from benchmarks import dense
from benchmarks.agreement import same
from benchmarks.common import Options, Report
from benchmarks.compare import Operator, compare
from benchmarks.scenes import STRIDE, Scene, usual_scenes
from crowdseg import ops
from crowdseg.ops.p2r_targets import p2r_targets_torch

Pair = tuple[Tensor, Tensor]


def run(options: Options) -> Report:
    operator = Operator(
        "P2R targets",
        lambda scene: ops.p2r_targets(scene.logits, scene.points, STRIDE, scene.batch_index),
        agree,
        compulsory=lambda scene: 12 * scene.logits.numel(),  # logits, targets and owners
        reference=p2r_targets_torch,
        compiled=lambda function, scene: function(
            scene.logits, scene.points, scene.batch_index, STRIDE, 8.0, 96.0, 8.0, 1.0
        ),
        others={"dense": dense.p2r_targets},
        dense=["dense"],
        dense_width=lambda scene: scene.logits.numel(),
    )
    return compare(operator, usual_scenes(options.quick, options.device), options)


def agree(found: Pair, expected: Pair, _: Scene) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        same(mine, theirs)
