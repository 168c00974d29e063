"""Tiles give what the whole image gives."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from crowdseg import _native
from crowdseg.config import XMaskConfig
from crowdseg.engine.inference import predict_image, run_network
from crowdseg.errors import UsageError
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


def test_tiles_give_the_whole_images_people(network: Network, image: np.ndarray) -> None:
    whole = predict_image(network, image, XMaskConfig(), tile=4096)
    tiled = predict_image(network, image, XMaskConfig(), tile=416)
    assert len(whole.points) > 500
    assert np.array_equal(whole.points, tiled.points)
    assert whole.labels is not None and tiled.labels is not None
    assert (whole.labels != tiled.labels).mean() < 1e-3


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
        predict_image(network, image, XMaskConfig(), tile=64)


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
