"""Training: what a run leaves, exact resume, interruption, several processes, and refusals."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crowdseg.config import TrainConfig, make_config
from crowdseg.engine import load, train_count, train_seg
from crowdseg.engine.loader import CropPairs, make_loader
from crowdseg.engine.watcher import StepInfo, Watcher
from crowdseg.errors import CrowdsegError, DataError, SetupError, UsageError
from crowdseg.methods.xmask import XMask
from crowdseg.models import Network

SMALL = ["width=8", "crop=64", "batch_size=4", "ratio=0.5", "eval_every=1", "val_fraction=0.2"]
SHORT = ["pretrain.epochs=2", "segment.epochs=2", "count.epochs=2"]
MIXED = ["pretrain.warmup_epochs=1", "segment.warmup_epochs=1"]


def config(*more: str) -> TrainConfig:
    return make_config("demo", overrides=[*SMALL, *SHORT, *MIXED, *more])


class Stopper(Watcher):
    """Calls ``what`` when a given step of a stage is done, before it could be saved."""

    def __init__(self, stage: str, step: int, what: Callable[[], None]) -> None:
        self.place, self.what = (stage, step), what

    def stepped(self, step: StepInfo) -> None:
        if (step.stage, step.step) == self.place:
            self.what()


class Killed(Exception):
    """Stands for kill -9: nothing is saved behind it."""


def die() -> None:
    raise Killed


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


@pytest.fixture(scope="module")
def finished(crowd, tmp_path_factory) -> Path:
    """Runs of both commands that were never stopped."""
    folder = tmp_path_factory.mktemp("finished")
    train_seg(crowd.data, masks=crowd.masks, config=config(), out=folder / "seg", device="cpu")
    train_count(from_run=folder / "seg", config=config(), out=folder / "count", device="cpu")
    return folder


def test_a_run_leaves_all_that_tells_what_it_was(finished: Path, crowd) -> None:
    for name, stage in (("seg", "segment"), ("count", "count")):
        run = finished / name
        record = json.loads((run / "weights.json").read_text())
        assert record["method"] == "xmask" and record["val"]["stage"] == stage
        assert Path(record["data"]["root"]) == crowd.data.resolve()
        assert len(record["data"]["labelled"]) == 4 and len(record["data"]["val"]) == 2
        assert json.loads((run / "run.json").read_text())["finished"] is True
        assert not (run / "resume.pt").exists()
        assert "lr: 0.002" in (run / "config.yaml").read_text()
        assert list((run / "tensorboard").iterdir())
    rows = list(csv.DictReader((finished / "seg" / "log.csv").open()))
    assert {row["stage"] for row in rows} == {"pretrain", "segment"}
    assert {"p2r", "p2r_unlabelled", "pull_push", "val_mae", "val_mean_iou_c"} <= {row["name"] for row in rows}


def test_a_finished_run_predicts(finished: Path, crowd) -> None:
    model = load(finished / "count", device="cpu")
    image = next((crowd.data / "part_A" / "test_data" / "images").iterdir())
    prediction = model.predict(image)
    assert prediction.size == (96, 128) and prediction.labels is not None


def test_validation_images_are_neither_labelled_nor_test_images(finished: Path) -> None:
    data = json.loads((finished / "seg" / "weights.json").read_text())["data"]
    assert not set(data["val"]) & set(data["labelled"])
    assert all("train_data" in key for key in data["val"] + data["labelled"])


@pytest.mark.parametrize(("stage", "step"), [("pretrain", 2), ("pretrain", 4), ("segment", 1), ("segment", 3)])
def test_a_killed_run_goes_on_to_the_same_weights(finished: Path, crowd, tmp_path, stage: str, step: int) -> None:
    """Saved after every step, killed in the middle of one; then resumed."""
    run, settings = tmp_path / "run", config("save_seconds=0")
    stopper = Stopper(stage, step, die)
    with pytest.raises(Killed):
        train_seg(crowd.data, masks=crowd.masks, config=settings, out=run, device="cpu", announce=lambda *_: [stopper])
    train_seg(out=run, resume=True, device="cpu")
    assert_same_weights(run, finished / "seg")
    assert (run / "log.csv").read_text() == (finished / "seg" / "log.csv").read_text()


def test_a_run_killed_behind_its_first_stage_does_not_take_the_second_ones_weights(crowd, tmp_path) -> None:
    """Nothing was saved for an hour, but the second stage has written its first weights already."""
    slow = config("save_seconds=3600", "pretrain.epochs=1")
    train_seg(crowd.data, masks=crowd.masks, config=slow, out=tmp_path / "whole", device="cpu")
    stopper = Stopper("segment", 3, die)
    with pytest.raises(Killed):
        train_seg(
            crowd.data,
            masks=crowd.masks,
            config=slow,
            out=tmp_path / "run",
            device="cpu",
            announce=lambda *_: [stopper],
        )
    assert json.loads((tmp_path / "run" / "weights.json").read_text())["val"]["stage"] == "segment"
    saved = torch.load(tmp_path / "run" / "resume.pt", weights_only=True)
    assert (saved["stage"], saved["step"]) == ("segment", 0)
    train_seg(out=tmp_path / "run", resume=True, device="cpu")
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_a_killed_train_count_goes_on_to_the_same_weights(finished: Path, tmp_path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train_count(
            from_run=finished / "seg",
            config=config("save_seconds=0"),
            out=run,
            device="cpu",
            announce=lambda *_: [Stopper("count", 3, die)],
        )
    train_count(out=run, resume=True, device="cpu")
    assert_same_weights(run, finished / "count")


def test_ctrl_c_saves_and_the_run_goes_on(finished: Path, crowd, tmp_path) -> None:
    run = tmp_path / "run"
    stopper = Stopper("segment", 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_seg(crowd.data, masks=crowd.masks, config=config(), out=run, device="cpu", announce=lambda *_: [stopper])
    saved = torch.load(run / "resume.pt", weights_only=True)
    assert (saved["stage"], saved["step"]) == ("segment", 2)
    train_seg(out=run, resume=True, device="cpu")
    assert_same_weights(run, finished / "seg")


def test_workers_change_nothing(finished: Path, crowd, tmp_path) -> None:
    train_seg(crowd.data, masks=crowd.masks, config=config("workers=2"), out=tmp_path / "run", device="cpu")
    assert_same_weights(tmp_path / "run", finished / "seg")


def test_another_seed_gives_other_weights(finished: Path, crowd, tmp_path) -> None:
    train_seg(crowd.data, masks=crowd.masks, config=config("seed=1"), out=tmp_path / "run", device="cpu")
    one, two = weights(tmp_path / "run"), weights(finished / "seg")
    assert not torch.equal(one["fuse.mix.weight"], two["fuse.mix.weight"])


def test_a_loss_that_is_not_a_number_stops_with_the_last_good_weights(crowd, tmp_path, monkeypatch) -> None:
    whole = XMask.step

    def poisoned(self, batch, progress):
        result = whole(self, batch, progress)
        result.loss = result.loss * (float("nan") if progress.stage == "segment" else 1)
        return result

    monkeypatch.setattr(XMask, "step", poisoned)
    with pytest.raises(CrowdsegError, match=r"nan .*stage segment.*weights\.safetensors.*segment\.lr="):
        train_seg(crowd.data, masks=crowd.masks, config=config(), out=tmp_path / "run", device="cpu")
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_bfloat16_trains(crowd, tmp_path) -> None:
    result = train_seg(crowd.data, masks=crowd.masks, config=config("amp=true"), out=tmp_path / "run", device="cpu")
    assert [stage["stage"] for stage in result.stages] == ["pretrain", "segment"]


def test_two_processes_train_without_p2r_in_segment_as_published(crowd, tmp_path) -> None:
    """No gradient reaches the density head then, and none may be waited for."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "crowdseg"]
    command += ["train-seg", str(crowd.data), "--masks", str(crowd.masks), "--out", str(run), "--preset", "demo"]
    for setting in [*SMALL, *SHORT, *MIXED, "xmask.segment_p2r_weight=0"]:
        command += ["--set", setting]
    done = subprocess.run(
        [*command, "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((run / "run.json").read_text())["finished"] is True
    assert load(run, device="cpu").record["val"]["stage"] == "segment"  # type: ignore[index]


def test_refusals(finished: Path, crowd, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="finished"):
        train_seg(out=finished / "seg", resume=True)
    with pytest.raises(UsageError, match="holds a run already"):
        train_seg(crowd.data, masks=crowd.masks, config=config(), out=finished / "seg")
    with pytest.raises(UsageError, match=r"train-seg|not a run"):
        train_count(out=tmp_path, resume=True)
    with pytest.raises(UsageError, match="no unfinished run"):
        train_seg(resume=True)
    with pytest.raises(UsageError, match="prep-masks"):
        train_seg(config=config())
    with pytest.raises(UsageError, match="prep-masks"):
        train_seg(crowd.data, config=config())
    with pytest.raises(UsageError, match="no trained run"):
        train_count()
    with pytest.raises(UsageError, match="keeps its own data and settings"):
        train_seg(crowd.data, out=tmp_path, resume=True)
    with pytest.raises(UsageError, match=r"pretrain\.epochs and segment\.epochs are 0"):
        none = config("pretrain.epochs=0", "segment.epochs=0")
        train_seg(crowd.data, masks=crowd.masks, config=none, out=tmp_path / "none", device="cpu")
    with pytest.raises(UsageError, match="no device `tpu`"):
        train_seg(crowd.data, masks=crowd.masks, config=config(), device="tpu")


def test_weights_are_taken_only_by_the_same_network(finished: Path, tmp_path) -> None:
    for train in (train_seg, train_count):
        with pytest.raises(UsageError, match=r"finished.*/seg are of a network with width=8, .* ask for 16: .*--from"):
            train(from_run=finished / "seg", config=config("width=16"), out=tmp_path / "run", device="cpu")
    vgg = replace(config(), backbone="vgg16_bn")
    with pytest.raises(UsageError, match=r"backbone=tiny, .* ask for vgg16_bn"):
        train_seg(from_run=finished / "count", config=vgg, out=tmp_path / "run", device="cpu")


def test_train_count_does_not_begin_from_an_unfinished_run(crowd, tmp_path) -> None:
    with pytest.raises(Killed):
        train_seg(
            crowd.data,
            masks=crowd.masks,
            config=config(),
            out=tmp_path / "run",
            announce=lambda *_: [Stopper("segment", 1, die)],
        )
    with pytest.raises(UsageError, match="is not finished"):
        train_count(from_run=tmp_path / "run")


def test_resuming_on_changed_data_is_refused(crowd, tmp_path) -> None:
    shutil.copytree(crowd.data, tmp_path / "data")
    shutil.copytree(crowd.masks, tmp_path / "masks")
    with pytest.raises(Killed):
        train_seg(
            tmp_path / "data",
            masks=tmp_path / "masks",
            config=config("save_seconds=0"),
            out=tmp_path / "run",
            announce=lambda *_: [Stopper("pretrain", 2, die)],
        )
    removed = sorted((tmp_path / "data" / "part_A" / "test_data" / "images").iterdir())[0]
    removed.unlink()
    with pytest.raises(UsageError, match="has changed"):
        train_seg(out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("content", ["[]", '{"task": "seg"}', '{"task": "seg", "data": {"root": "."}}'])
def test_damaged_records_are_refused_by_name(tmp_path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    (tmp_path / "weights.json").write_text(content)
    with pytest.raises(DataError, match=r"run\.json is"):
        train_seg(out=tmp_path, resume=True)
    with pytest.raises(DataError, match=r"weights\.json is"):
        train_count(from_run=tmp_path, config=config(), device="cpu")


def test_a_broken_image_stops_with_one_sentence_from_workers_too(crowd, tmp_path) -> None:
    shutil.copytree(crowd.data, tmp_path / "data")
    for image in (tmp_path / "data" / "part_A" / "train_data" / "images").iterdir():
        image.write_bytes(image.read_bytes()[:1500])  # the header is whole
    everyone = config("workers=1", "ratio=1", "val_fraction=0")
    with pytest.raises(DataError) as error:
        train_seg(tmp_path / "data", masks=crowd.masks, config=everyone, out=tmp_path / "run", device="cpu")
    assert "IMG_" in str(error.value) and "\n" not in str(error.value)


def test_the_loader_leaves_the_runs_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    pairs = CropPairs(config(), 0, [], [], None, 4)
    assert list(make_loader(pairs, 3, 3)) == []
    assert torch.equal(torch.get_rng_state(), before)


def test_a_compiled_student_learns_what_a_plain_one_learns(crowd, tmp_path, monkeypatch) -> None:
    """With the compiler's tracing alone: the code that it would make takes a minute."""
    compiled, plain = tmp_path / "compiled", tmp_path / "plain"
    calls = []

    def trace(module: torch.nn.Module) -> None:
        calls.append(module)
        torch.nn.Module.compile(module, backend="aot_eager")

    monkeypatch.setattr(Network, "compile", trace)
    short = ["pretrain.epochs=1", "pretrain.warmup_epochs=0", "segment.epochs=0"]
    for run, setting in ((compiled, "compile=true"), (plain, "compile=false")):
        train_seg(crowd.data, masks=crowd.masks, config=config(*short, setting), out=run, device="cpu")
    assert len(calls) == 1
    one, two = weights(compiled), weights(plain)
    assert one.keys() == two.keys()
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_without_a_compiler_a_compiled_run_says_so(crowd, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/nowhere/c++"))
    with pytest.raises(SetupError, match=r"torch.compile fails here .*compile=false"):
        train_seg(crowd.data, masks=crowd.masks, config=config("compile=true"), out=tmp_path / "run", device="cpu")
