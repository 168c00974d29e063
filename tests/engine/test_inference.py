"""Tiles give what the whole image gives."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from crowdseg import _native, rle
from crowdseg.config import XMaskConfig
from crowdseg.engine.inference import _draw, predict_image, predict_together, run_network
from crowdseg.engine.memory import OutOfMemory
from crowdseg.engine.room import Plan
from crowdseg.errors import UsageError
from crowdseg.methods.pseudo import Detections
from crowdseg.models import Network, build_backbone


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (60, 75, 3), dtype=np.uint8)
    return coarse.repeat(12, 0).repeat(12, 1)[:700, :890]


@pytest.fixture(scope="module")
def network(image: np.ndarray) -> Network:
    """Random weights whose density head fires at one cell in ten."""
    torch.manual_seed(3)
    network = Network(build_backbone("tiny"), width=16).eval()
    last = network.density_head.layers[-2]
    last.weight.data *= 1000
    shift = run_network(network, image, False).logits.quantile(0.9) / 2
    last.bias.data += torch.cat([shift.expand(4), -shift.expand(4)])
    return network


def test_tiles_give_the_whole_images_output(network: Network, image: np.ndarray) -> None:
    whole = run_network(network, image, True, tile=4096)
    tiled = run_network(network, image, True, tile=448)
    assert torch.allclose(whole.logits, tiled.logits, atol=1e-3)
    assert whole.embedding is not None and tiled.embedding is not None
    assert torch.allclose(whole.embedding, tiled.embedding, atol=1e-4)


@pytest.mark.parametrize(("tile", "strip"), [(416, 1), (384, 200 * 704), (4096, 64 * 704)])
def test_tiles_and_strips_give_the_whole_images_people(
    network: Network, image: np.ndarray, tile: int, strip: int
) -> None:
    whole = predict_image(network, image, XMaskConfig(), plan=Plan(4096))
    parts = predict_image(network, image, XMaskConfig(), plan=Plan(tile, strip))
    assert parts.rles is not None and parts.exclusive and len(whole.points) > 500
    both = set(map(tuple, whole.points)) & set(map(tuple, parts.points))
    assert len(both) >= 0.999 * max(len(whole.points), len(parts.points))
    first, second = (
        [mask for point, mask in zip(p.points, p.masks(), strict=True) if tuple(point) in both] for p in (whole, parts)
    )
    ious = [coco_mask.iou([a], [b], [0])[0, 0] if rle.area([a])[0] else 1.0 for a, b in zip(first, second, strict=True)]
    assert np.mean(ious) >= 0.99
    assert whole.labels is not None and parts.labels is not None and (whole.labels != parts.labels).mean() < 1e-3


def test_strips_hold_the_masks_of_people_who_stand_alone(network: Network) -> None:
    """Their circles are half as wide as the image: what is left of a strip decides what is drawn in it."""
    embedding = torch.nn.functional.normalize(torch.randn(1, 16, 48, 160, generator=torch.manual_seed(0)), dim=1)
    embedding[:, :, :, 40:120] = embedding[:, :, :1, 80:81]  # one thing, in the middle of which three people stand
    people = Detections(
        torch.tensor([[241.5, 97.5], [377.5, 97.5], [381.5, 97.5]]), torch.ones(3), torch.zeros(3).long()
    )
    whole = _draw(embedding, people, (190, 637), XMaskConfig(), Plan())
    parts = _draw(embedding, people, (190, 637), XMaskConfig(), Plan(strip=1))
    assert rle.area(parts["rles"])[0] > 10_000
    np.testing.assert_array_equal(rle.to_label_map(parts["rles"], (190, 637)), whole["labels"])
    halved = _draw(embedding, people, (190, 637), XMaskConfig(), Plan(strip=192 * 256, most=192 * 280))
    assert halved == parts
    with pytest.raises(OutOfMemory, match="far from all others"):
        _draw(embedding, people, (190, 637), XMaskConfig(), Plan(strip=1, most=192 * 120))


def test_images_of_one_canvas_go_through_together(network: Network, image: np.ndarray) -> None:
    images = [image[:300, :400], image[90:384, 7:404], image[:300, :416][::-1]]
    alone = [predict_image(network, each, XMaskConfig()) for each in images]
    together = predict_together(network, images, XMaskConfig())
    for one, other in zip(alone, together, strict=True):
        assert one.size == other.size and np.array_equal(one.points, other.points) and len(one.points) > 100
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert (one.labels != other.labels).mean() < 1e-3


def test_people_lie_in_the_image_and_scores_above_the_minimum(network: Network, image: np.ndarray) -> None:
    found = predict_image(network, image[:333, :201], XMaskConfig(), min_score=0.7)
    assert found.size == (333, 201) and found.labels is not None and found.labels.shape == (333, 201)
    assert (found.points >= 0).all() and (found.points[:, 0] < 201).all() and (found.points[:, 1] < 333).all()
    assert len(found.points) and (found.scores > 0.7).all()
    assert found.labels.max() <= len(found.points)


def test_counting_alone_draws_no_masks(network: Network, image: np.ndarray) -> None:
    with_masks, without = (predict_image(network, image, XMaskConfig(), masks=m) for m in (True, False))
    assert without.labels is None
    assert np.array_equal(with_masks.points, without.points)


@pytest.mark.parametrize("size", [(1, 1), (5, 300)])
def test_tiny_images_work(network: Network, size: tuple[int, int]) -> None:
    assert predict_image(network, np.zeros((*size, 3), np.uint8), XMaskConfig()).size == size


def test_a_tile_below_the_receptive_field_is_refused(network: Network, image: np.ndarray) -> None:
    with pytest.raises(UsageError, match="--tile 64"):
        predict_image(network, image, XMaskConfig(), plan=Plan(64))


def test_backbones_that_pool_the_whole_image_are_not_tiled() -> None:
    pooling = Network(build_backbone("efficientnet_b0"), width=16).eval()
    with pytest.raises(UsageError, match="--tile 512"):
        run_network(pooling, np.zeros((200, 490, 3), np.uint8), False, tile=480)


def test_predicting_loads_neither_torchs_compiler_nor_scipy() -> None:
    """A second or two of every start, for nothing."""
    code = """
import sys, numpy as np
from crowdseg.config import XMaskConfig
from crowdseg.engine.inference import predict_image
from crowdseg.models import Network, build_backbone
network = Network(build_backbone("tiny"), width=16).eval()
assert len(predict_image(network, np.zeros((64, 64, 3), np.uint8), XMaskConfig(), min_score=0).masks()) == 256
print([name for name in ("torch._dynamo", "scipy", "torchvision", "matplotlib") if name in sys.modules])
"""
    environment = {**os.environ, "CROWDSEG_OPS": "auto"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    expected = [] if _native.backend() == "native" else ["scipy"]
    assert ast.literal_eval(done.stdout) == expected
