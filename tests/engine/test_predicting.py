"""Many images: small ones together, in order, one large one at a time in memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowdseg.engine import predicting
from crowdseg.engine.image_files import find_images
from crowdseg.engine.memory import OutOfMemory
from crowdseg.structures import Prediction

SIZES = [(64, 90), (60, 96), (40, 40), (64, 96), (300, 400), (64, 96), (64, 64)]


class Recorder:
    """Stands for a model: notes the sizes that come together, and how many images are alive."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []
        self.alive: list[weakref.ref] = []
        self.most = 0

    def check_file(self, size, **options) -> None:
        pass

    def predict_together(self, images, min_score):
        self.alive = [each for each in self.alive if each() is not None] + [weakref.ref(each) for each in images]
        self.most = max(self.most, sum(each().size for each in self.alive) // 3)
        self.batches.append([each.shape[:2] for each in images])
        return [Prediction(each.shape[:2], np.full((each[0, 0, 0], 2), 1.0), np.ones(each[0, 0, 0])) for each in images]


@pytest.fixture
def images(tmp_path: Path):
    for index, size in enumerate(SIZES):
        Image.fromarray(np.full((*size, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    (tmp_path / "3a.png").write_bytes(b"nothing")
    truncated = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4a.png").write_bytes(truncated[: len(truncated) // 2])
    return find_images([tmp_path])


def test_images_that_fill_one_canvas_go_together_and_come_back_in_order(monkeypatch, images) -> None:
    monkeypatch.setattr(predicting, "TOGETHER", 30_000)
    model, received = Recorder(), []
    result = predicting.predict_images(model, images, lambda prediction, pixels: received.append(prediction.key))
    assert result.counts == [(f"{index}.png", float(index)) for index in range(7)]
    assert received == [f"{index}.png" for index in range(7)]
    assert sorted(name for name, _ in result.broken) == ["3a.png", "4a.png"]
    assert sorted(map(len, model.batches)) == [1, 1, 1, 1, 3]


def test_every_size_is_asked_for_before_the_first_image(monkeypatch, images) -> None:
    def check_file(size, **options):
        if size == (60, 96):  # not the one with the most pixels
            raise OutOfMemory("it does not fit")

    model = Recorder()
    monkeypatch.setattr(model, "check_file", check_file)
    with pytest.raises(OutOfMemory, match=r"1\.png: it does not fit"):
        predicting.predict_images(model, images)
    assert model.batches == []


def test_one_large_image_at_a_time_is_in_memory(monkeypatch, images) -> None:
    monkeypatch.setattr(predicting, "TOGETHER", 1)
    gc.collect()
    model = Recorder()
    predicting.predict_images(model, images)
    assert model.most == 300 * 400 and len(model.batches) == 7
