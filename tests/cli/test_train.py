"""The installed command line: train-seg and train-count, killed for real and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SETTINGS = ["width=8", "crop=64", "batch_size=4", "eval_every=1", "save_seconds=0"]
SETTINGS += ["pretrain.epochs=3", "segment.epochs=2", "count.epochs=2", "pretrain.warmup_epochs=1"]


def command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("crowdseg")), *map(str, arguments)]


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=120)


def train_seg(crowd, out: str) -> list[object]:
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    names = ["train-seg", crowd.data, "--masks", crowd.masks, "--out", out, "--preset", "demo", "--ratio", "0.5"]
    return [*names, "--device", "cpu", *options]


@pytest.fixture(scope="module")
def folder(crowd, tmp_path_factory) -> Path:
    """A folder with the finished run ``whole``."""
    folder = tmp_path_factory.mktemp("train")
    done = run(folder, *train_seg(crowd, "whole"))
    assert done.returncode == 0, done.stderr
    assert "Run folder: whole" in done.stdout and "segment" in done.stdout
    assert "4 labelled" in done.stderr and "best so far" in done.stderr
    return folder


def test_pictures_are_drawn(folder: Path) -> None:
    from PIL import Image

    assert Image.open(folder / "whole" / "curves.png").size[0] > 500
    assert len(list((folder / "whole" / "overlays").glob("segment-*.jpg"))) >= 1


def test_kill_9_and_resume_give_the_same_weights(folder: Path, crowd) -> None:
    process = subprocess.Popen(command(*train_seg(crowd, "killed")), cwd=folder, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (folder / "killed" / "resume.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the run was finished before it could be killed"
    done = run(folder, "train-seg", "--resume", "--out", "killed", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    one, two = (load_file(folder / name / "weights.safetensors") for name in ("whole", "killed"))
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_train_count_takes_settings_and_data_from_the_run(folder: Path) -> None:
    done = run(folder, "train-count", "--from", "whole", "--out", "count", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "width: 8" in (folder / "count" / "config.yaml").read_text()


def test_train_seg_begins_with_a_runs_weights_settings_and_data(folder: Path) -> None:
    """Named by the run's folder or by the weights in it."""
    changes = ["--set", "pretrain.epochs=0", "--set", "segment.epochs=1", "--set", "segment.warmup_epochs=9"]
    done = run(folder, "train-seg", "--from", "whole/weights.safetensors", *changes, "--out", "on", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "weights of whole" in done.stderr
    assert "width: 8" in (folder / "on" / "config.yaml").read_text()
    assert json.loads((folder / "on" / "run.json").read_text())["from"] == str(folder / "whole")
    before, after = (load_file(folder / name / "weights.safetensors") for name in ("whole", "on"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fuse", "density_head", "mask_head"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train-seg", "nowhere"], "nowhere"),
        (["train-seg", "--preset", "nope"], "nope"),
        (["train-seg", "--set", "lr=1"], "lr"),
        (["train-seg", "--resume", "--ratio", "0.5"], "--resume"),
        (["train-count", "--from", "nowhere"], "nowhere"),
        (["train-seg", "--from", "nowhere"], "nowhere"),
        (["train-seg", "--from", "nowhere", "--resume"], "keeps its own data and settings"),
        (["train-seg", "--config", "nope.yaml"], "nope.yaml"),
    ],
)
def test_bad_requests_exit_with_2_and_one_sentence(tmp_path: Path, arguments: list[str], named: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert named in done.stderr and "Traceback" not in done.stderr


def test_help_is_quick_and_names_the_commands(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    for name in ("prep-masks", "train-seg", "train-count", "eval", "predict", "data", "demo"):
        assert name in done.stdout
