"""Energy labels against a loop over points on the full map."""

import math

import pytest
import torch

from crowdseg import ops
from crowdseg.ops import circles, energy_labels


def loop(full, centers, scene, claim, weight=0.6, threshold=0.8):
    height, width = scene.size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = torch.zeros(len(full), height, width, dtype=torch.int32)
    for image in range(len(full)):
        best = torch.full((height, width), math.inf, dtype=full.dtype)
        for rank, n in enumerate((scene.batch_index == image).nonzero().flatten()):
            square = (x - scene.points[n, 0]) ** 2 + (y - scene.points[n, 1]) ** 2
            energy = (full[image] - centers[n][:, None, None]).square().sum(0).sqrt()
            energy = energy + weight * square / scene.radii[n] ** 2
            own = (square <= scene.radii[n] ** 2 * (1 + 1e-6)) & ((energy < threshold) | claim[n]) & (energy < best)
            best[own], labels[image][own] = energy[own], rank + 1
    return labels


@pytest.mark.parametrize("tile, chunk", [(256, 1 << 18), (11, 50)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cells, stride", [((7, 9), 4), ((10, 8), 1), ((1, 1), 3)])
def test_equals_the_loop(scenes, feature_map, cells, stride, dtype, tile, chunk, monkeypatch):
    monkeypatch.setattr("crowdseg.ops.feature_map.TILE", tile)
    monkeypatch.setattr(circles, "CHUNK", chunk)
    for seed in range(3):
        scene = scenes(cells=cells, stride=stride, seed=seed)
        claim = torch.rand(len(scene.points), generator=torch.Generator().manual_seed(seed)) > 0.7
        embedding, place, batch = scene.embedding, scene.points, scene.batch_index
        centers = ops.smoothed_center_features(embedding, place, scene.size, batch)
        expected = loop(feature_map(embedding, scene.size, 7, 1.5), centers, scene, claim)
        labels = energy_labels(
            embedding.to(dtype), place.to(dtype), scene.radii.to(dtype), scene.size, batch, claim_circle=claim
        )
        assert labels.dtype == torch.int32
        assert torch.equal(labels, expected)


def test_settings_are_used(scene, feature_map):
    blur = {"kernel_size": 5, "sigma": 3.0}
    centers = ops.smoothed_center_features(scene.embedding, scene.points, scene.size, scene.batch_index, **blur)
    full = feature_map(scene.embedding, scene.size, 5, 3.0)
    nobody = torch.zeros(len(scene.points), dtype=torch.bool)
    labels = energy_labels(
        scene.embedding,
        scene.points,
        scene.radii,
        scene.size,
        scene.batch_index,
        geometry_weight=0.3,
        energy_threshold=1.1,
        **blur,
    )
    assert torch.equal(labels, loop(full, centers, scene, nobody, weight=0.3, threshold=1.1))


def test_bfloat16_is_summed_in_float32(scene):
    half = scene.embedding.to(torch.bfloat16)
    inputs = (scene.points, scene.radii, scene.size, scene.batch_index)
    labels = energy_labels(half.float(), *inputs)
    assert torch.equal(energy_labels(half, *inputs), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(energy_labels(half.float(), *inputs), labels)


def test_one_that_claims_its_circle_gets_it_whole_unless_another_has_less_energy(scene):
    inputs = (scene.embedding, scene.points, scene.radii, scene.size, scene.batch_index)
    everyone = torch.ones(len(scene.points), dtype=torch.bool)
    claimed = energy_labels(*inputs, claim_circle=everyone)
    circles_union = ops.exclusion_labels(scene.points, scene.radii, scene.size, scene.batch_index, len(claimed))
    assert torch.equal(claimed > 0, circles_union > 0)
    tested = energy_labels(*inputs)
    assert torch.equal(claimed[tested > 0], tested[tested > 0])


def test_coincident_points_go_to_the_first_and_radius_zero_to_one_pixel():
    embedding = torch.ones(1, 2, 4, 4)
    points = torch.tensor([[5.0, 5.0], [5.0, 5.0], [12.0, 9.0]])
    labels = energy_labels(embedding, points, torch.tensor([3.0, 3.0, 0.0]), (16, 16))[0]
    assert (labels == 1).sum() == 29 and not (labels == 2).any()
    assert (labels == 3).nonzero().tolist() == [[9, 12]]


def test_energy_off_is_the_exclusion_map(scene):
    """With one embedding everywhere and equal radii, only distance is left to decide."""
    radii = torch.full((len(scene.points),), 6.0, dtype=torch.float64)
    flat = torch.zeros_like(scene.embedding)
    labels = energy_labels(flat, scene.points, radii, scene.size, scene.batch_index, energy_threshold=9)
    assert torch.equal(labels, ops.exclusion_labels(scene.points, radii, scene.size, scene.batch_index, len(labels)))
