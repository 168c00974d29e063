"""The benchmark of training repeats what the networks are asked in a step."""

from __future__ import annotations

import pytest

from benchmarks import bench_training
from benchmarks.bench_training import Timed, _crowd, _trainer
from crowdseg.config import make_config
from crowdseg.methods.xmask import TRAINED


@pytest.fixture
def trainer(tmp_path, monkeypatch) -> Timed:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_training, "LEARNING_STEPS", 1)
    config = make_config("demo", ratio=0.4, overrides=["crop=64", "width=8", "batch_size=2"])
    return _trainer(config, _crowd(quick=True), "cpu")


def test_the_passes_of_a_step_are_repeated_with_their_gradients(trainer: Timed) -> None:
    student, teacher = trainer.method.student, trainer.method.teacher
    for stage, trained in TRAINED.items():
        trainer.start(stage)
        passes = trainer.passes(next(trainer.batches(1)))
        assert [each.network for each in passes] == [student, student, teacher]
        assert [each.learns for each in passes] == [True, True, False]
        student.zero_grad(set_to_none=True)
        trainer.repeat(passes)
        learning = {name.split(".")[0] for name, each in student.named_parameters() if each.grad is not None}
        assert learning == set(trained)
