"""The benchmarks run and agree; what times they find is not tested."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import plot, targets
from benchmarks.agreement import Disagreement
from benchmarks.bench_exclusion import squared_distance
from benchmarks.common import Options
from benchmarks.compare import Contender, Operator, compare
from benchmarks.scenes import Scene

ROOT = Path(__file__).parents[2]
KEYS = {
    *("case", "size", "batch", "points", "layout", "contender", "cpu_ms", "cpu_spread", "wall_ms", "wall_spread"),
    *("times_native", "memory_mb", "roof", "extrapolated", "note"),
}


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_benchmark_prints_rows_of_the_documented_keys() -> None:
    command = [sys.executable, "-m", "benchmarks", "radii", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["machine"]["environment"]["MALLOC_MMAP_MAX_"] == "0"
    rows = document["benchmarks"]["radii"]
    assert {"torch", "torch.compile", "dense", "cKDTree"} <= {row["contender"] for row in rows}
    assert all(set(row) == KEYS for row in rows)
    assert all(row["cpu_ms"] > 0 and row["wall_ms"] > 0 for row in rows if row["contender"] != "torch.compile")


def test_a_contender_that_gives_something_else_stops_the_run() -> None:
    def agree(found: int, expected: int, _: Scene) -> None:
        if found != expected:
            raise Disagreement(f"{found} instead of {expected}")

    operator = Operator("Points", lambda scene: scene.count, agree, others={"wrong": lambda scene: scene.count + 1})
    with pytest.raises(
        Disagreement, match=r"Points, 32 x 32, B 1, N 5, uniform: wrong and torch disagree: 6 instead of 5"
    ):
        compare(operator, [Scene.make((32, 32), 1, 5)], Options(quick=True))


def test_a_part_of_the_points_is_extrapolated_along_a_line() -> None:
    scene = Scene.make((32, 32), 2, 100)
    contender = Contender("dense", lambda part: 3 + 2 * part.count, [scene.first(4), scene.first(10)], scene.count)
    assert contender.whole(lambda work: work()) == pytest.approx(203)


def test_labels_cost_the_squared_distance_to_their_own_image_s_point() -> None:
    scene = Scene.make((32, 32), 2, 5)
    x, y = scene.places[1, 2].round().long().tolist()
    places, labels = torch.tensor([[1, y, x], [1, (y + 16) % 32, x], [1, y, x]]), torch.tensor([3, 3, 0])
    to_pixel = float((scene.places[1, 2].double() - torch.tensor([x, y])).square().sum())
    scene.radii[5 + 2] = 3.0
    assert squared_distance(scene, places, labels).tolist() == pytest.approx([to_pixel, math.inf, 1e30])


def _row(contender: str, points: int, milliseconds: float, **more: object) -> dict:
    row = {
        "case": "some",
        "size": [4096, 4096],
        "batch": 1,
        "points": points,
        "layout": "uniform",
        "contender": contender,
    }
    return row | {"cpu_ms": milliseconds, "wall_ms": milliseconds, "memory_mb": 1.0, "extrapolated": False} | more


def test_ratios_are_checked_where_both_rows_were_measured() -> None:
    rows = [_row("native", 1000, 1.0), _row("cKDTree", 1000, 4.0), _row("native", 10_000, 1.0)]
    (found,) = targets.check({"radii": rows})
    assert (found["ratio"], found["to_reach"], found["reached"]) == (4.0, 5, False)
    rows[1]["cpu_ms"] = 6.0
    assert targets.check({"radii": rows})[0]["reached"]


def test_the_growth_of_the_time_has_an_upper_limit() -> None:
    rows = [_row("native", 10, 1.0, size=[256, 256]), _row("native", 1000, 2.5, size=[256, 256])]
    (found,) = targets.check({"pull_push": rows})
    assert (found["ratio"], found["reached"]) == (2.5, False)
    rows[1]["cpu_ms"] = 1.5
    assert targets.check({"pull_push": rows})[0]["reached"]


def test_a_saved_run_is_drawn(tmp_path: Path) -> None:
    benchmarks = {
        panel.benchmark: [_row("native", n, n / 10, size=panel.size) for n in (10, 100)] for panel in plot.PANELS
    }
    file, picture = tmp_path / "run.json", tmp_path / "kernels.png"
    file.write_text(json.dumps({"machine": {"device": "a machine", "torch": "2"}, "benchmarks": benchmarks}))
    plot.draw(file, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
