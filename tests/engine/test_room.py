"""Tiles and strips are as large as memory allows, and what does not fit is refused before it is begun."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crowdseg import memory
from crowdseg.config import make_config
from crowdseg.engine import room
from crowdseg.engine.image_files import find_images
from crowdseg.engine.memory import OutOfMemory
from crowdseg.engine.model import Model
from crowdseg.engine.predicting import predict_images
from crowdseg.engine.room import check_file, free_for_predicting, plan_image, smallest_tile
from crowdseg.errors import UsageError
from crowdseg.models import Network, activation_bytes, build_backbone, folded

MB = 2**20
SIZE = (8000, 9000)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(build_backbone("tiny"), width=16).eval()


@pytest.mark.parametrize(
    ("text", "amount"),
    [("3GB", 3 * 2**30), ("1.5 g", 1.5 * 2**30), ("800MB", 800 * MB), ("2k", 2048), ("77", 77), ("1GiB", 2**30)],
)
def test_amounts_of_memory(text: str, amount: int) -> None:
    assert memory.parse_memory(text) == amount


@pytest.mark.parametrize("text", ["", "0", "GB", "-3GB", "3 apples", "3GB 4GB"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(UsageError, match="no amount of memory"):
        memory.parse_memory(text)


def test_amounts_are_shown_rounded_up() -> None:
    assert [memory.show_memory(int(gb * 2**30)) for gb in (0, 0.01, 1.31, 9.99, 12.2)] == [
        "0.0 GB",
        "0.1 GB",
        "1.4 GB",
        "10 GB",
        "13 GB",
    ]


def test_the_process_holds_what_it_has_taken() -> None:
    before = memory.resident_memory()
    held = np.frombuffer(mmap.mmap(-1, 50 * MB), np.uint8)  # from the system, not from what was freed before
    held[:] = 1
    assert memory.resident_memory() - before > 0.9 * held.nbytes


def test_more_room_gives_larger_tiles_and_strips(network: Network) -> None:
    plans = [plan_image(network, SIZE, True, amount * MB) for amount in (380, 420, 600, 4000)]
    assert [plan.tile for plan in plans] == sorted({plan.tile for plan in plans})
    assert plans[0].tile >= smallest_tile(network) and plans[-1].tile == room.LARGEST_TILE
    assert plans[0].strip < plans[-1].strip == room.DRAWN_AT_ONCE
    for plan, amount in zip(plans, (380, 420, 600, 4000), strict=True):  # what is planned fits
        maps = SIZE[0] * 9024 * room.MAPS[True]
        tile = plan.tile**2 * (activation_bytes(network, True) + room.PIXELS)
        assert maps + max(tile, plan.strip * room.DRAWING) <= amount * MB


def test_what_does_not_fit_is_refused_with_both_amounts(network: Network) -> None:
    with pytest.raises(
        OutOfMemory, match=r"9,000 x 8,000 pixels .* take 0\.4 GB .* 0\.3 GB .*--max-memory.*--count-only"
    ):
        plan_image(network, SIZE, True, 300 * MB)
    assert plan_image(network, SIZE, False, 300 * MB).tile > smallest_tile(network)
    with pytest.raises(OutOfMemory, match=r"in tiles of 4096 take .*smaller --tile") as refused:
        plan_image(network, SIZE, False, 300 * MB, tile=4096)
    assert "--count-only" not in str(refused.value)


def test_a_tile_that_is_too_small_is_refused_before_anything_is_read(network: Network) -> None:
    with pytest.raises(UsageError, match="--tile 64 is too small"):
        check_file(network, SIZE, False, tile=64)
    check_file(network, (60, 64), False, tile=64)  # it needs no tiles


def test_networks_that_look_at_the_whole_image_take_it_whole_or_not_at_all() -> None:
    pooling = Network(build_backbone("efficientnet_b0"), width=16).eval()
    assert plan_image(pooling, (2400, 3000), False, 2**40).tile == 3008
    with pytest.raises(OutOfMemory, match="3,000 x 2,400"):
        plan_image(pooling, (2400, 3000), False, 500 * MB)


def test_files_are_refused_before_they_are_decoded(network: Network) -> None:
    held = memory.resident_memory()
    check_file(network, (1000, 1000), True, held + 400 * MB)
    with pytest.raises(OutOfMemory, match=r"30,000 x 30,000 pixels take 5\.9 GB to decode"):
        check_file(network, (30_000, 30_000), False, held + 400 * MB)


def test_half_of_what_is_free_is_taken(monkeypatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: 1000)
    monkeypatch.setattr(room, "resident_memory", lambda: 300)
    assert free_for_predicting(torch.device("cpu")) == 500
    assert free_for_predicting(torch.device("cpu"), 1000) == 700
    assert free_for_predicting(torch.device("cpu"), 100) == -200


def test_no_image_is_begun_where_one_is_too_large(network: Network, tmp_path: Path) -> None:
    for name, size in (("a.png", (40, 50)), ("large.png", (3000, 3000)), ("z.png", (10, 10))):
        Image.new("RGB", size).save(tmp_path / name)
    model = Model(network, make_config("demo"), tmp_path, {})
    done = []
    with pytest.raises(OutOfMemory, match=r"large\.png: 3,000 x 3,000 pixels"):
        predict_images(
            model,
            find_images([tmp_path]),
            lambda prediction, _: done.append(prediction),
            max_memory=memory.resident_memory() + 50 * MB,
        )
    assert not done


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2"])
def test_a_folded_network_gives_the_same(backbone: str) -> None:
    torch.manual_seed(0)
    plain = Network(build_backbone(backbone), width=16)
    with torch.no_grad():
        plain(torch.randn(2, 3, 128, 128))  # batch norms that do something
    quick = folded(plain.eval())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in quick.modules())
    images = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        for one, other in zip(plain(images), quick(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
