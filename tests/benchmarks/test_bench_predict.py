"""The benchmark of predicting measures the network inside the whole."""

from __future__ import annotations

import pytest

from benchmarks import bench_predict
from crowdseg.engine import load


def test_the_networks_time_is_a_part_of_the_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_predict, "PHOTOGRAPHS", 2)
    monkeypatch.setattr(bench_predict, "SIZE", (64, 96))
    monkeypatch.setattr(bench_predict, "PEOPLE", 3)
    monkeypatch.setattr("benchmarks.bench_train_step.LEARNING_STEPS", 1)
    monkeypatch.setitem(bench_predict.NETWORKS, "small", ("width=8",))
    images = bench_predict._photographs()
    folder = bench_predict.trained("small", images, 5)
    found = bench_predict.measure(load(folder, "cpu"), images, "masks, overlays", 1)
    assert 0 < found["share"] < 1 and found["ms"] > 0 and found["people"] == 5
    assert len(list((bench_predict.WORK / "out" / "overlays").iterdir())) == 2
    command = bench_predict.command(folder, images[0].path)
    assert command["people"] == pytest.approx(load(folder, "cpu").predict(images[0].path).count)
    assert 0.1 < command["peak GB"] < 10
