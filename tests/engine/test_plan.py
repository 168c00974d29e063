"""What is said of a run before it begins, and that the timing leaves it as it was."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crowdseg.config import TrainConfig, make_config
from crowdseg.data.images import read_image
from crowdseg.engine import plan as plan_module
from crowdseg.engine import train_seg
from crowdseg.engine.loader import CropPairs
from crowdseg.engine.plan import StageTime, TrainingPlan
from crowdseg.errors import CrowdsegError
from crowdseg.methods.xmask import XMask

SMALL = ["width=8", "crop=64", "batch_size=4", "ratio=0.5", "eval_every=2", "val_fraction=0.2"]
SHORT = ["pretrain.epochs=3", "segment.epochs=2", "pretrain.warmup_epochs=1", "segment.warmup_epochs=0"]


def config(*more: str) -> TrainConfig:
    return make_config("demo", overrides=[*SMALL, *SHORT, *more])


def planned(crowd, tmp_path: Path, settings: TrainConfig) -> TrainingPlan:
    plans: list[TrainingPlan] = []

    def announce(plan: TrainingPlan) -> list:
        plans.append(plan)
        return []

    train_seg(
        crowd.data,
        masks=crowd.masks,
        config=settings,
        out=tmp_path / "run",
        device="cpu",
        announce=announce,
        dry_run=True,
    )
    assert not (tmp_path / "run").exists()
    return plans[0]


def estimate(plan: TrainingPlan) -> dict[str, StageTime]:
    times = plan.estimate()
    assert times is not None
    return times


def test_a_run_has_the_same_weights_with_and_without_the_timing(crowd, tmp_path) -> None:
    def announce(plan: TrainingPlan) -> list:
        estimate(plan)
        return []

    short = config("pretrain.epochs=1", "pretrain.warmup_epochs=0.5", "segment.epochs=1")
    common = {"masks": crowd.masks, "config": short, "device": "cpu"}
    train_seg(crowd.data, out=tmp_path / "timed", announce=announce, **common)
    train_seg(crowd.data, out=tmp_path / "untimed", **common)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("timed", "untimed"))
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_the_timing_puts_random_numbers_and_networks_back(crowd, tmp_path, monkeypatch) -> None:
    plan = planned(crowd, tmp_path, config())
    whole = XMask.step

    def step(self, batch, progress):
        torch.rand(1)  # a method may draw: dropout does
        return whole(self, batch, progress)

    monkeypatch.setattr(XMask, "step", step)
    before, random = (
        {name: value.clone() for name, value in plan.method.student.state_dict().items()},
        torch.get_rng_state(),
    )
    estimate(plan)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in plan.method.student.state_dict().items())


def test_steps_and_validations_are_counted(crowd, tmp_path) -> None:
    plan = planned(crowd, tmp_path, config())
    assert plan.data.train_images == 6 and plan.stages == ["pretrain", "segment"]
    assert plan.stage("pretrain").steps == 3 * 2
    assert [plan.validations(stage) for stage in plan.stages] == [2, 1]  # epochs 2 and 3; epoch 2


def test_a_stage_without_epochs_is_left_out(crowd, tmp_path) -> None:
    assert planned(crowd, tmp_path, config("segment.epochs=0")).stages == ["pretrain"]


@pytest.mark.parametrize(
    ("more", "labelled", "full"),
    [
        ((), 2, 4),
        (("pretrain.warmup_epochs=0",), 0, 6),
        (("pretrain.warmup_epochs=9",), 6, 0),
        (("pretrain.unlabelled_max=0",), 6, 0),
    ],
)
def test_a_stages_time_is_that_of_its_steps_and_validations(crowd, tmp_path, more, labelled: int, full: int) -> None:
    times = estimate(planned(crowd, tmp_path, config(*more)))["pretrain"]
    assert (times.labelled_step is None) == (labelled == 0) and (times.full_step is None) == (full == 0)
    expected = labelled * (times.labelled_step or 0) + full * (times.full_step or 0) + 2 * times.validation
    assert times.validation > 0 and times.total == pytest.approx(expected)


def test_a_slow_network_is_timed_with_one_pair_and_scaled_up(crowd, tmp_path, monkeypatch) -> None:
    """Also: steps with unlabelled crops are timed with them."""
    whole, seen = XMask.step, []

    def slow(self, batch, progress):
        seen.append((len(batch.labelled.images), batch.unlabelled is not None, progress.unlabelled_weight > 0))
        time.sleep(0.3)
        return whole(self, batch, progress)

    monkeypatch.setattr(XMask, "step", slow)
    times = estimate(planned(crowd, tmp_path, config("segment.epochs=0")))["pretrain"]
    assert set(seen) == {(1, False, False), (1, True, True)}
    assert (times.labelled_step or 0) > 4 * 0.3 and (times.full_step or 0) > 4 * 0.3


def test_a_quick_network_is_timed_with_whole_batches(crowd, tmp_path, monkeypatch) -> None:
    whole, seen = XMask.step, set()

    def watched(self, batch, progress):
        seen.add(len(batch.labelled.images))
        return whole(self, batch, progress)

    monkeypatch.setattr(XMask, "step", watched)
    monkeypatch.setattr(plan_module, "SECONDS", 60.0)
    estimate(planned(crowd, tmp_path, config("segment.epochs=0")))
    assert seen == {1, 4}


def test_workers_load_beside_the_steps(crowd, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(plan_module._Rehearsal, "seconds", lambda *_, **__: (0.8, 0.1))
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    for workers, seconds in ((0, 0.9), (2, 0.4), (16, 0.1)):
        times = estimate(planned(crowd, tmp_path, config(f"workers={workers}")))
        assert times["pretrain"].full_step == pytest.approx(seconds), workers


@pytest.mark.parametrize("error", [CrowdsegError("the loss became nan"), torch.cuda.OutOfMemoryError("2 GiB")])
def test_a_timing_that_fails_says_nothing_and_stops_nothing(crowd, tmp_path, monkeypatch, error: Exception) -> None:
    def broken(*_):
        raise error

    monkeypatch.setattr(XMask, "step", broken)
    assert planned(crowd, tmp_path, config()).estimate() is None


def test_images_that_do_not_stay_in_memory_are_decoded_again(crowd, tmp_path) -> None:
    plan = planned(crowd, tmp_path, config())
    pairs = CropPairs(plan.config, 0, plan.data.labelled, [], None, 4)
    pairs[0]
    one = read_image(plan.data.labelled[0].image).nbytes
    pairs.cache.limit = 3 * one
    assert pairs.cache.would_hold(3) and not pairs.cache.would_hold(4)
