"""Exclusive label maps: every pixel to the nearest of the points whose circles hold it."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import dense
from benchmarks.agreement import same_but_for_ties
from benchmarks.common import Options, Report
from benchmarks.compare import Operator, compare
from benchmarks.scenes import Scene, usual_scenes
from crowdseg import ops
from crowdseg.ops.circles import RIM_SLACK
from crowdseg.ops.exclusion import exclusion_labels_torch


def run(options: Options) -> Report:
    operator = Operator(
        "Exclusion labels",
        lambda scene: ops.exclusion_labels(scene.points, scene.radii, scene.size, scene.batch_index, scene.batch),
        lambda found, expected, scene: same_but_for_ties(found, expected, lambda *at: squared_distance(scene, *at)),
        compulsory=lambda scene: 4 * scene.batch * scene.size[0] * scene.size[1] + 12 * scene.batch * scene.count,
        reference=exclusion_labels_torch,
        compiled=lambda function, scene: function(
            scene.points, scene.radii, scene.batch_index, *scene.size, scene.batch
        ),
        others={"dense": dense.exclusion_labels},
        dense=["dense"],
    )
    return compare(operator, usual_scenes(options.quick, options.device), options)


def squared_distance(scene: Scene, places: Tensor, labels: Tensor) -> Tensor:
    """What a label costs at a place: the squared distance of its point; background more than any point in reach."""
    owner = places[:, 0] * scene.count + labels.clamp(min=1) - 1
    distance2 = (places[:, [2, 1]] - scene.points[owner].double()).square().sum(1)
    distance2[distance2 > scene.radii[owner].double() ** 2 * (1 + 2 * RIM_SLACK)] = torch.inf
    return torch.where(labels > 0, distance2, 1e30)
