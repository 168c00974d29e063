"""Compiled kernels against the references, where tiles, lists and tables of the kernels come to their limits."""

from __future__ import annotations

import pytest
import torch

from crowdseg import ops

WIDE = {"kernel_size": 13, "sigma": 3.0}
SCENES = {
    "many channels": ({"depth": 37, "counts": (5, 20)}, {}),
    "more points than a block has threads": ({"counts": (300, 0, 40)}, {}),
    "a crowd": ({"counts": (1300, 3), "cells": (36, 34)}, {}),
    "ragged tiles": ({"cells": (11, 7), "stride": 5}, {}),
    "a cell per pixel": ({"cells": (20, 37), "stride": 1}, WIDE),
    "a column": ({"cells": (40, 1), "stride": 3}, WIDE),
    "one pixel": ({"cells": (1, 1), "stride": 1, "counts": (3, 1)}, {}),
}
every_scene = pytest.mark.parametrize("settings, blur", SCENES.values(), ids=SCENES.keys())


@pytest.fixture(autouse=True)
def compiled(backend: str) -> None:
    if backend == "torch":
        pytest.skip("the reference itself")


def results(scene, blur, dtype=torch.float64):
    """What every operator gives, and the gradients."""
    embedding = scene.embedding.to(dtype).requires_grad_()
    index, batch = scene.batch_index, len(scene.labels)
    features = ops.smoothed_center_features(embedding, scene.points, scene.size, index, **blur)
    loss = ops.pull_push_loss(embedding, scene.points, scene.labels, index, valid=scene.valid, **blur)
    claim = scene.radii < scene.radii.median()
    inputs = (scene.points, scene.radii, scene.size, index)
    return {
        "radii": ops.nearest_neighbor_radii(scene.points, index, max_radius=min(scene.size) / 2),
        "exclusion": ops.exclusion_labels(*inputs, batch),
        "features": features,
        "features' gradient": torch.autograd.grad(features.square().sum(), embedding)[0],
        "loss": loss,
        "loss's gradient": torch.autograd.grad(loss, embedding)[0],
        "loss without gradient": ops.pull_push_loss(embedding.detach(), scene.points, scene.labels, index, **blur),
        "energy": ops.energy_labels(embedding, *inputs, claim_circle=claim, **blur),
        "targets": ops.p2r_targets(scene.logits.to(dtype), scene.points, scene.stride, index, max_radius=40),
    }


@every_scene
def test_equals_the_reference(scenes, settings, blur):
    scene = scenes(**settings)
    found = results(scene, blur)
    with ops.use_backend("torch"):
        expected = results(scene, blur)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], msg=lambda text, name=name: f"{name}: {text}")


@every_scene
def test_repeats_bit_by_bit(scenes, settings, blur):
    """In float32, where another order of sums shows; threads of the emulator take another order each time."""
    scene = scenes(**settings)
    first, second = results(scene, blur, torch.float32), results(scene, blur, torch.float32)
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=0)


def test_an_embedding_finer_than_the_image(scenes):
    scene = scenes(cells=(4, 5))
    scene.embedding = scenes(cells=(37, 29)).embedding
    found = results(scene, {})
    with ops.use_backend("torch"):
        expected = results(scene, {})
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], msg=lambda text, name=name: f"{name}: {text}")


def test_thousands_far_from_a_few():
    """So many that a tile looks them through in rounds, of which the first have nothing for the tiles on the right."""
    rng = torch.Generator().manual_seed(0)
    left = torch.rand(8500, 2, generator=rng, dtype=torch.float64) * 30
    right = torch.rand(20, 2, generator=rng, dtype=torch.float64) * 30 + torch.tensor([270.0, 0.0])
    points, size = torch.cat([left, right]), (32, 300)
    radii = ops.nearest_neighbor_radii(points)
    labels = ops.exclusion_labels(points, radii, size)
    with ops.use_backend("torch"):
        assert torch.equal(radii, ops.nearest_neighbor_radii(points))
        assert torch.equal(labels, ops.exclusion_labels(points, radii, size))
    assert labels.max() > 8500
