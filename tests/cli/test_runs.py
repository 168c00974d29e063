"""``crowdseg runs`` on runs that were trained and evaluated, and the plan before training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from crowdseg.config import make_config
from crowdseg.engine import train_count, train_seg
from crowdseg.engine.watcher import StepInfo, Watcher

SMALL = ["width=8", "crop=64", "batch_size=4", "eval_every=1", "val_fraction=0.2"]
SHORT = ["pretrain.epochs=2", "segment.epochs=1", "count.epochs=1", "pretrain.warmup_epochs=1"]


class Killed(Exception):
    """Stands for a power cut."""


class Killer(Watcher):
    def stepped(self, step: StepInfo) -> None:
        if (step.stage, step.step) == ("pretrain", 3):
            raise Killed


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("crowdseg")), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def folder(crowd, tmp_path_factory) -> Path:
    """``runs/seg/first`` (evaluated), ``runs/count/first`` and ``runs/seg/cut``, which is unfinished."""
    folder = tmp_path_factory.mktemp("runs")
    config = make_config("demo", overrides=[*SMALL, *SHORT], ratio=0.5)
    common = {"masks": crowd.masks, "device": "cpu"}
    train_seg(crowd.data, config=config, out=folder / "runs/seg/first", **common)
    train_count(from_run=folder / "runs/seg/first", config=config, out=folder / "runs/count/first", device="cpu")
    cut = make_config("demo", overrides=[*SMALL, *SHORT, "pretrain.lr=1e-3"], ratio=0.5)
    with pytest.raises(Killed):
        train_seg(crowd.data, config=cut, out=folder / "runs/seg/cut", announce=lambda _: [Killer()], **common)
    for number, name in enumerate(("seg/first", "count/first", "seg/cut")):
        for file in (folder / "runs" / name).iterdir():
            os.utime(file, (2e9 + number, 2e9 + number))
    done = run(folder, "eval", "runs/seg/first", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    (folder / "told.json").write_text(done.stdout)
    return folder


def test_the_list_shows_state_and_scores(folder: Path) -> None:
    done = run(folder, "runs")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("runs/")]
    assert names == ["runs/seg/cut", "runs/count/first", "runs/seg/first"]
    told = json.loads((folder / "told.json").read_text())
    assert (
        f"{told['counting']['mae']:.2f} {told['counting']['rmse']:.2f}".split()
        == done.stdout.splitlines()[-1].split()[-4:-2]
    )
    assert "epoch 1 of 2" in done.stdout and done.stdout.count("finished") == 2


def test_the_list_as_json(folder: Path) -> None:
    done = run(folder.parent, "runs", "--under", folder / "runs", "--json")
    assert done.returncode == 0, done.stderr
    cut, count, first = json.loads(done.stdout)
    assert (cut["finished"], cut["stage"], cut["epoch"], cut["test"]) == (False, "pretrain", 1, None)
    assert (count["task"], count["val"]["stage"], count["test"]) == ("count", "count", None)
    assert (first["preset"], first["ratio"], first["backbone"]) == ("demo", 0.5, "tiny")
    told = json.loads((folder / "told.json").read_text())
    assert [first["test"][name] for name in ("mae", "rmse", "nae")] == [
        told["counting"][name] for name in ("mae", "rmse", "nae")
    ]
    assert first["test"]["mean_iou_c"] == told["instances"]["mean_iou_c"]
    assert first["test"]["mask_truth"] == "annotated"


@pytest.mark.parametrize("option", [("--min-score", "0.4"), ("--split", "train")])
def test_other_evaluations_do_not_take_the_place_of_the_test_scores(folder: Path, option: tuple[str, str]) -> None:
    before = (folder / "runs/seg/first/eval-test.json").read_text()
    assert run(folder, "eval", "runs/seg/first", *option, "--device", "cpu").returncode == 0
    assert (folder / "runs/seg/first/eval-test.json").read_text() == before


def test_an_evaluation_on_another_dataset_is_not_left_in_the_run(folder: Path, tmp_path: Path) -> None:
    from crowdseg.data.synthetic import write_synthetic

    write_synthetic(tmp_path / "other", 4, (3, 6), (64, 96), seed=1)
    assert run(folder, "eval", "runs/count/first", tmp_path / "other", "--device", "cpu").returncode == 0
    assert not (folder / "runs/count/first/eval-test.json").exists()


def test_compare_lays_settings_scores_and_curves_side_by_side(folder: Path) -> None:
    done = run(folder, "runs", "compare", "runs/seg/first", "runs/seg/cut", "runs/count/first", "--out", "new/all.png")
    assert done.returncode == 0, done.stderr
    assert "pretrain.lr" in done.stdout and "batch_size" not in done.stdout
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["pretrain.lr"] == ["0.002", "0.001", "0.002"] and rows["task"] == ["seg", "seg", "count"]
    with Image.open(folder / "new/all.png") as picture:
        assert picture.size[0] > 1000 and len(picture.convert("RGB").getcolors(1 << 20)) > 50


def test_imported_weights_have_no_curves(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "runs/seg/first/weights.json").read_text())
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        content = {**{key: record[key] for key in ("method", "task", "config")}, "finished": True, "from": None}
        (tmp_path / name / "run.json").write_text(json.dumps(content))
    done = run(tmp_path, "runs", "compare", "one", "two")
    assert done.returncode == 0, done.stderr
    assert "nothing but the folder" in done.stdout and "No picture" in done.stderr
    assert not (tmp_path / "compare.png").exists()
    assert "imported" in run(tmp_path, "runs", "--under", ".").stdout


def test_damaged_runs_are_named_behind_the_others(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "good").symlink_to(folder / "runs/seg/first")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "run.json").write_text('{"task": ')
    done = run(tmp_path, "runs", "--json")
    assert done.returncode == 3
    assert "runs/bad/run.json" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(done.stdout) == []  # links are not followed
    done = run(tmp_path, "runs", "compare", "runs/good", "runs/bad")
    assert done.returncode == 1 and "runs/bad/run.json" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["runs"], "no run under runs"),
        (["runs", "--under", "nowhere"], "no run under nowhere"),
        (["runs", "compare", "a"], "two runs or more"),
        (["runs", "compare", "a", "b"], "a is not a run"),
        (["runs", "compare", "a", "a"], "named twice"),
        (["runs", "compare", "a", "b", "--out", "picture"], "picture is no name for a picture"),
        (["runs", "--json", "compare", "a", "b"], "--json"),
    ],
)
def test_bad_requests_exit_with_2_and_one_sentence(tmp_path: Path, arguments: list[str], named: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert named in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_a_dry_run_says_what_would_be_done_and_does_nothing(crowd, tmp_path: Path) -> None:
    options = ["--preset", "sha-5", "--backbone", "tiny", "--ratio", "0.5", "--device", "cpu", "--dry-run"]
    settings = [part for setting in [*SMALL[:3], "workers=0", "pretrain.epochs=9000000"] for part in ("--set", setting)]
    done = run(tmp_path, "train-seg", crowd.data, "--masks", crowd.masks, *options, *settings)
    assert done.returncode == 0, done.stderr
    for said in ("4 labelled and", "preset sha-5: tiny", "batch 4 of 64 px on cpu", "18,000,000", "Estimated time: "):
        assert said in done.stdout
    assert (
        "ShanghaiTech A, 5 % labels" in done.stdout and "Mean IoU C 31.4 (XMask); MAE 69.9 (P2R alone)" in done.stdout
    )
    assert " days" in done.stdout and "That is long: on a CPU" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_resumed_run_leaves_it_as_it_is(folder: Path) -> None:
    run_folder = folder / "runs/seg/cut"
    before = {file: (file.stat().st_mtime, file.stat().st_size) for file in run_folder.rglob("*")}
    done = run(folder, "train-seg", "--resume", "--out", run_folder, "--device", "cpu", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "goes on from its last saved step" in done.stdout and "Estimated time" not in done.stdout
    assert {file: (file.stat().st_mtime, file.stat().st_size) for file in run_folder.rglob("*")} == before
