"""Energy masks in a 768 x 1024 image: every pixel to the point of least energy."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import dense
from benchmarks.agreement import same_but_for_ties
from benchmarks.common import Options, Report
from benchmarks.compare import Operator, compare
from benchmarks.scenes import SMALL, Scene
from crowdseg import ops
from crowdseg.ops.circles import RIM_SLACK
from crowdseg.ops.energy import energy_labels_torch

SIZE = (768, 1024)


def run(options: Options) -> Report:
    operator = Operator(
        "Energy labels",
        lambda scene: ops.energy_labels(scene.embedding, scene.points, scene.radii, scene.size, scene.batch_index),
        lambda found, expected, scene: same_but_for_ties(found, expected, lambda *at: energy(scene, *at)),
        # the embedding, and the labels
        compulsory=lambda scene: 4 * (scene.embedding.numel() + scene.batch * scene.size[0] * scene.size[1]),
        reference=energy_labels_torch,
        compiled=lambda function, scene: function(
            scene.embedding,
            scene.points,
            scene.radii,
            scene.batch_index,
            torch.zeros_like(scene.batch_index, dtype=torch.bool),
            *scene.size,
            *(dense.GEOMETRY_WEIGHT, dense.ENERGY_THRESHOLD, dense.KERNEL_SIZE, dense.SIGMA),
        ),
        others={"dense": dense.energy_labels, "pass per point": dense.energy_passes},
        dense=["dense", "pass per point"],
    )
    return compare(operator, scenes(options), options)


def scenes(options: Options) -> list[Scene]:
    if options.quick:
        return [Scene.make(SMALL, 1, 50, "uniform", options.device)]
    layouts, counts = ("uniform", "clustered"), (50, 200, 1000, 5000)
    return [Scene.make(SIZE, 1, n, layout, options.device) for layout in layouts for n in counts]


def energy(scene: Scene, places: Tensor, labels: Tensor) -> Tensor:
    """The energy of a label at a place, in float64; infinite outside the circle, the threshold for background."""
    owner = places[:, 0] * scene.count + labels.clamp(min=1) - 1
    embedding, pixels, points = scene.embedding.double(), places[:, [2, 1]].double(), scene.points[owner].double()
    here = ops.smoothed_center_features(embedding, pixels, scene.size, places[:, 0])
    there = ops.smoothed_center_features(embedding, points, scene.size, places[:, 0])
    part = (pixels - points).square().sum(1) / scene.radii[owner].double() ** 2
    value = (here - there).norm(dim=1) + dense.GEOMETRY_WEIGHT * part
    value[part > 1 + 2 * RIM_SLACK] = torch.inf
    return torch.where(labels > 0, value, dense.ENERGY_THRESHOLD)
