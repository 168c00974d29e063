"""Exclusion radii: the distance of every point to its nearest neighbour, in a 4096 x 4096 image."""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from benchmarks import dense
from benchmarks.agreement import near
from benchmarks.common import Options, Report
from benchmarks.compare import Operator, compare
from benchmarks.scenes import Scene
from crowdseg import ops
from crowdseg.ops.radii import nearest_neighbor_radii_torch

SIZE = (4096, 4096)


def run(options: Options) -> Report:
    others = {"dense": dense.radii}
    if options.device == "cpu":
        others["cKDTree"] = tree_radii
    operator = Operator(
        "Exclusion radii",
        radii,
        lambda found, expected, _: near(found, expected),
        compulsory=lambda scene: 12 * scene.count,  # x, y and the radius, float32
        reference=nearest_neighbor_radii_torch,
        compiled=lambda function, scene: function(scene.points, scene.batch_index, 3.0, scene.max_radius),
        others=others,
        dense=["dense"],
        dense_width=lambda scene: scene.crowd.shape[1],
        expected=lambda scene: radii(replace(scene, places=scene.crowd))[: scene.count],
    )
    counts = (1000,) if options.quick else (100, 1000, 10_000, 100_000, 1_000_000)
    layouts = ("uniform",) if options.quick else ("uniform", "clustered")
    scenes = [Scene.make(SIZE, 1, n, layout, options.device) for layout in layouts for n in counts]
    return compare(operator, scenes, options)


def radii(scene: Scene) -> Tensor:
    return ops.nearest_neighbor_radii(scene.points, scene.batch_index, max_radius=scene.max_radius)


def tree_radii(scene: Scene) -> Tensor:
    """Building the tree and asking it, with torch's number of threads."""
    points = scene.points.double().numpy()
    distance = cKDTree(points).query(points, k=2, workers=torch.get_num_threads())[0][:, 1]
    return torch.from_numpy(distance).clamp(dense.MIN_RADIUS, scene.max_radius).float()
