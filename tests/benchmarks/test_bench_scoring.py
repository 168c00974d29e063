"""What the scoring benchmark calls the same is the same, and what differs is called so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import bench_scoring
from benchmarks.common import Options


@pytest.mark.parametrize("what", bench_scoring.WAYS)
@pytest.mark.parametrize("layout", ["scattered", "tangled"])
def test_figures_are_those_of_dense_matrices(what: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = bench_scoring.crowds(layout, 40)
    figures = bench_scoring.WAYS[what](scene)
    assert 0 < figures[0] <= 40
    assert bench_scoring._agrees(what, scene) == "agrees"
    monkeypatch.setitem(bench_scoring.WAYS, what, lambda scene: [figures[0] + 1, *figures[1:]])
    assert bench_scoring._agrees(what, scene) == "DIFFERS"


def test_crowds_are_as_large_as_said() -> None:
    scene = bench_scoring.crowds("scattered", 30)
    assert scene.target.max() == scene.prediction.max() == len(scene.points) == len(scene.found) == 30
    assert len(np.unique(scene.target)) == 31


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    small = bench_scoring.crowds
    monkeypatch.setattr(bench_scoring, "crowds", lambda layout, count: replace(small(layout, 20), count=20))
    rows = bench_scoring.run(Options(quick=True)).rows
    assert [(row["layout"], row["what"]) for row in rows] == [
        (layout, what) for layout in ("scattered", "tangled") for what in bench_scoring.WAYS
    ]
    assert all(row["dense"] == "agrees" and row["to reach"] is None for row in rows)
