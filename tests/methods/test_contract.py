"""What the engine expects of a method, for every method in the table."""

from __future__ import annotations

import copy

import pytest
import torch

from crowdseg.config import TrainConfig, make_config
from crowdseg.methods import METHODS, Batch, Labelled, Method, Progress, Unlabelled

SMALL = ["width=16", "batch_size=2", "crop=64"]


@pytest.fixture
def config() -> TrainConfig:
    return make_config("demo", overrides=SMALL)


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(0)
    labels = torch.zeros(2, 64, 64, dtype=torch.int32)
    labels[0, 8:20, 8:20], labels[0, 30:50, 30:44], labels[1, 40:60, 5:25] = 1, 2, 1
    points = torch.tensor([[14.0, 10.0], [36.0, 33.0], [15.0, 45.0]])
    labelled = Labelled(torch.randn(2, 3, 64, 64), points, torch.tensor([0, 0, 1]), labels)
    keep = torch.ones(2, 64, 64, dtype=torch.bool)
    keep[:, 10:20, 10:20] = False
    return Batch(labelled, Unlabelled(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64), keep))


def stages() -> list[tuple[str, str]]:
    return [(name, stage) for name, kind in METHODS.items() for task in kind.stages.values() for stage in task]


def begin(name: str, stage: str, config: TrainConfig) -> tuple[Method, torch.optim.Optimizer]:
    torch.manual_seed(1)
    method = METHODS[name](config, "none")
    method.start_stage(stage)
    optimizer = torch.optim.Adam(method.parameter_groups(stage, getattr(config, stage)))
    method.train_mode(stage)
    return method, optimizer


@pytest.mark.parametrize(("name", "stage"), stages())
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_step_is_finite_and_moves_only_what_trains(
    name: str, stage: str, weight: float, config: TrainConfig, batch: Batch
) -> None:
    method, optimizer = begin(name, stage, config)
    before = copy.deepcopy(method.student.state_dict())
    result = method.step(batch, Progress(stage, getattr(config, stage), 0.0, weight))
    assert torch.isfinite(result.loss)
    assert result.logs["loss"] == result.loss.detach()
    assert all(value.ndim == 0 and not value.requires_grad for value in result.logs.values())
    assert any(name.endswith("_unlabelled") for name in result.logs) == (weight > 0)
    result.loss.backward()
    optimizer.step()
    trained = {name for name, p in method.student.named_parameters() if p.requires_grad}
    after = method.student.state_dict()
    for key, value in before.items():
        moved = not torch.equal(value, after[key])
        is_statistic = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert not moved or key in trained or is_statistic, key
    assert any(not torch.equal(before[key], after[key]) for key in trained)


@pytest.mark.parametrize(("name", "stage"), stages())
def test_the_teacher_follows_the_student_with_its_buffers(
    name: str, stage: str, config: TrainConfig, batch: Batch
) -> None:
    method, optimizer = begin(name, stage, config)
    start = copy.deepcopy(method.teacher.state_dict())
    for _ in range(2):
        method.step(batch, Progress(stage, getattr(config, stage), 0.0, 0.0)).loss.backward()
        optimizer.step()
        method.after_step()
    teacher, student = method.teacher.state_dict(), method.student.state_dict()
    for buffer, _ in method.student.named_buffers():
        assert torch.equal(teacher[buffer], student[buffer]), buffer
    moved = [key for key, value in start.items() if not torch.equal(value, student[key])]
    distance = {key: (teacher[key].float() - student[key].float()).abs().sum() for key in moved}
    for key in moved:
        assert distance[key] <= (start[key].float() - student[key].float()).abs().sum()


@pytest.mark.parametrize("name", METHODS)
def test_state_survives_saving(name: str, config: TrainConfig, batch: Batch) -> None:
    method, _ = begin(name, METHODS[name].stages["seg"][0], config)
    method.after_step()
    other = METHODS[name](config, "none")
    other.load_state(method.state())
    assert other.state() == method.state()


def test_frozen_batch_norm_keeps_its_statistics(batch: Batch) -> None:
    config = make_config("demo", overrides=[*SMALL, "freeze_batch_norm=true"])
    method, _ = begin("xmask", "pretrain", config)
    before = copy.deepcopy(method.student.encoder.state_dict())  # type: ignore[union-attr, operator]
    method.step(batch, Progress("pretrain", config.pretrain, 0.0, 1.0))
    after = method.student.encoder.state_dict()  # type: ignore[union-attr, operator]
    assert all(torch.equal(before[key], after[key]) for key in before)
