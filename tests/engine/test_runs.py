"""Runs found, read and compared; made by hand here, by training in tests/cli/test_runs.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from crowdseg.config import make_config
from crowdseg.engine.runs import compare_runs, find_runs, flat, read_run
from crowdseg.errors import DataError, UsageError

VAL = {"stage": "segment", "epoch": 2, "step": 9, "mae": 3.5, "rmse": 5.0, "mean_iou_c": 0.25}
SCORES = {"data": "/data/a", "images": 7, "mae": 4.0, "rmse": 6.0, "nae": 0.2, "f1": {"4 px": 0.5}, "mean_iou_c": None}


def make_run(
    folder: Path, *overrides: str, val: dict | None = VAL, finished: bool = True, data: dict | None = None, **more: Any
) -> Path:
    """The files of a run that are read here; ``data`` changes what it was trained on."""
    trained_on = {"root": "/data/a", "fingerprint": "f", "labelled": ["1", "2"], "val": ["3"], "unlabelled_images": 5}
    record = {
        "method": "xmask",
        "task": "seg",
        "config": asdict(make_config("demo", overrides=list(overrides))),
        "data": {**trained_on, **(data or {})},
        "versions": {"torch": "2"},
        "device": "cpu",
        **more,
    }
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({**record, "from": None, **({"finished": True} if finished else {})}))
    if val is not None:
        (folder / "weights.json").write_text(json.dumps({**record, "val": val}))
    return folder


def write_log(run: Path, *rows: str) -> None:
    (run / "log.csv").write_text("\n".join(["stage,epoch,step,name,value", *rows, ""]))


def age(run: Path, seconds: float) -> None:
    for file in run.iterdir():
        os.utime(file, (seconds, seconds))


def test_runs_are_found_at_any_depth_the_last_changed_first(tmp_path: Path) -> None:
    for number, name in enumerate(("seg/old", "count/deep/new", "middle")):
        age(make_run(tmp_path / name), [1e9, 3e9, 2e9][number])
    runs, damaged = find_runs(tmp_path)
    assert [run.folder.relative_to(tmp_path).as_posix() for run in runs] == ["count/deep/new", "middle", "seg/old"]
    assert [run.changed for run in runs] == [3e9, 2e9, 1e9] and not damaged


def test_a_run_that_still_writes_its_log_is_the_last_changed(tmp_path: Path) -> None:
    age(make_run(tmp_path / "finished"), 2e9)
    going = make_run(tmp_path / "going", finished=False)
    write_log(going, "pretrain,3,12,loss,0.5", "segment,1,4,loss,0.5")
    age(going, 1e9)
    os.utime(going / "log.csv", (3e9, 3e9))
    runs, _ = find_runs(tmp_path)
    assert [run.folder.name for run in runs] == ["going", "finished"]
    assert runs[0].place == ("segment", 1) and not runs[0].finished
    assert runs[1].place is None and runs[1].finished


def test_a_run_without_weights_yet_has_no_scores(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", val=None, finished=False))
    assert (run.val, run.test, run.place, run.finished) == (None, None, None, False)


def test_weights_that_came_alone_are_a_finished_run(tmp_path: Path) -> None:
    (make_run(tmp_path / "run", val=VAL, data=None) / "run.json").unlink()
    assert read_run(tmp_path / "run").finished


def test_test_scores_belong_to_the_weights_that_made_them(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    scores = {**SCORES, "mask_truth": None, "val": VAL}
    (folder / "eval-test.json").write_text(json.dumps(scores))
    assert read_run(folder).test == scores
    (folder / "eval-test.json").write_text(json.dumps({**scores, "val": {**VAL, "step": 6}}))
    assert read_run(folder).test is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", '{"task": "seg", "conf'),
        ("run.json", "[]"),
        ("run.json", '{"task": "seg", "config": {"preset": "demo", "backbone": "tiny"}, "data": {"root": "/"}}'),
        ("weights.json", '{"val": {"mae": 1}}'),
        ("weights.json", '{"val": [1]}'),
        ("eval-test.json", '{"mae": 1}'),
        ("eval-test.json", "nothing"),
        ("log.csv", "stage,epoch,step,name,value\npretrain,x,1,loss,1\n"),
        ("log.csv", "stage,epoch,step,name,value\npretrain,\xff\n"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_listed(tmp_path: Path, name: str, content: str) -> None:
    make_run(tmp_path / "good")
    make_run(tmp_path / "bad", finished=False)
    (tmp_path / "bad" / name).write_bytes(content.encode("latin-1"))
    runs, damaged = find_runs(tmp_path)
    assert [run.folder.name for run in runs] == ["good"]
    assert [type(error) for error in damaged] == [DataError] and f"bad/{name}" in str(damaged[0])
    assert "\n" not in str(damaged[0])


def test_refusals(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run under"):
        find_runs(tmp_path / "empty")
    with pytest.raises(UsageError, match="no run under"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="empty is not a run"):
        compare_runs([one, tmp_path / "empty"])
    with pytest.raises(UsageError, match="two runs or more"):
        compare_runs([one])
    with pytest.raises(UsageError, match="named twice"):
        compare_runs([one, two, tmp_path / "two" / ".." / "one"])


def test_only_what_differs_is_compared(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    two = make_run(tmp_path / "two", "pretrain.lr=1e-4", "ratio=0.3", data={"labelled": ["1", "2", "4"]}, device="cuda")
    comparison = compare_runs([one, two, make_run(tmp_path / "three")])
    assert dict(comparison.differing) == {
        "labelled images": [2, 3, 2],
        "device": ["cpu", "cuda", "cpu"],
        "ratio": [0.1, 0.3, 0.1],
        "pretrain.lr": [2e-3, 1e-4, 2e-3],
    }


def test_runs_of_another_version_are_compared_by_what_they_have(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    record = json.loads((two / "run.json").read_text())
    record["config"]["new_setting"] = 3
    (two / "run.json").write_text(json.dumps(record))
    assert compare_runs([one, two]).differing == [("new_setting", [None, 3])]


@pytest.mark.parametrize(
    ("data", "noted"),
    [
        ({}, None),
        ({"fingerprint": "g"}, "different datasets: their validation figures"),
        ({"val": ["9"]}, "validated on different images"),
        ({"labelled": ["1", "9"]}, "different labelled images"),
    ],
)
def test_scores_that_do_not_compare_are_said_so(tmp_path: Path, data: dict, noted: str | None) -> None:
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", data=data)]
    notes = compare_runs(runs).notes
    assert len(notes) == (noted is not None) and all(noted in note for note in notes if noted)


def test_test_scores_on_different_datasets_are_said_so(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two")]
    for run, data in zip(runs, ("/data/a", "/data/b"), strict=True):
        scores = {**SCORES, "data": data, "mask_truth": None, "val": VAL}
        (run / "eval-test.json").write_text(json.dumps(scores))
    assert compare_runs(runs).notes == [
        "The runs were tested on different datasets: their test figures do not compare."
    ]


def test_settings_are_flattened_with_their_group() -> None:
    assert dict(flat({"a": 1, "b": {"c": 2, "d": {"e": 3}}})) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_the_list_does_not_wait_for_torch() -> None:
    code = "import sys, crowdseg.cli.runs, crowdseg.engine.runs, crowdseg.report.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
