"""Batches in parts: the same gradient, the same run; and what happens where memory runs out."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from crowdseg.config import make_config
from crowdseg.engine import train_count, train_seg
from crowdseg.engine.device import Processes
from crowdseg.engine.loader import make_loader, to_device
from crowdseg.engine.memory import OutOfMemory, is_shortage, micro_batches
from crowdseg.engine.trainer import Trainer
from crowdseg.engine.training_data import training_data
from crowdseg.engine.watcher import Watcher
from crowdseg.errors import UsageError
from crowdseg.methods import Batch, Progress
from crowdseg.methods.xmask import XMask
from crowdseg.report.training import TrainingView

SMALL = [
    "width=8",
    "crop=64",
    "batch_size=4",
    "ratio=0.5",
    "eval_every=1",
    "val_fraction=0.2",
    "workers=0",
    "eval_images=1",
]
SHORT = ["pretrain.epochs=2", "segment.epochs=1", "count.epochs=1", "pretrain.warmup_epochs=1"]
CPU_SHORTAGE = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"


def config(*more: str):
    return make_config("demo", overrides=[*SMALL, *SHORT, *more])


# The gradient of a batch in parts


def begun(crowd, stage: str, *more: str) -> tuple[Trainer, Batch, Progress]:
    """A trainer at the beginning of a stage, and a batch with labelled and unlabelled crops."""
    settings = config("pretrain.warmup_epochs=0", "segment.warmup_epochs=0", "count.warmup_epochs=0", *more)
    torch.manual_seed(3)
    method = XMask(settings, "none")
    last = method.student.density_head.layers[-2]
    last.weight.data.mul_(100)  # as it begins it sees nobody anywhere, and the unlabelled half would be empty
    last.bias.data.zero_()
    method.teacher.load_state_dict(method.student.state_dict())
    data = training_data(crowd.data, crowd.masks, settings)
    trainer = Trainer(settings, data, Path("none"), method, torch.device("cpu"), Processes())
    method.start_stage(stage)
    method.parameter_groups(stage, getattr(settings, stage))
    method.train_mode(stage)
    batch = next(make_loader(trainer._pairs(1, stage, getattr(settings, stage), 2), 0, 1))
    return trainer, batch, Progress(stage, getattr(settings, stage), 0.0, 1.0)


def gradients(method: XMask) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in method.network.named_parameters() if p.grad is not None}


def freeze(method: XMask) -> None:
    for module in method.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@pytest.mark.parametrize("stage", ["pretrain", "segment", "count"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_give_the_gradient_and_the_logs_of_the_whole_batch(crowd, stage: str, size: int) -> None:
    """With batch norm at rest; 3 leaves a last part of one pair."""
    found = []
    for settings in ([], [f"micro_batch={size}"]):
        trainer, batch, progress = begun(crowd, stage, *settings)
        freeze(trainer.method)
        result = trainer._gradient(batch, progress)
        found.append((gradients(trainer.method), result))
    (whole, at_once), (parts, added) = found
    assert whole.keys() == parts.keys() and any(value.abs().max() > 0 for value in whole.values())
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-5 * float(value.abs().max()) + 1e-7)
    torch.testing.assert_close(added.loss, at_once.loss)
    torch.testing.assert_close(added.logs, at_once.logs)


def test_without_a_micro_batch_the_gradient_is_that_of_one_plain_step(crowd) -> None:
    trainer, batch, progress = begun(crowd, "pretrain")
    plain = copy.deepcopy(trainer.method)
    result = trainer._gradient(batch, progress)
    plain_result = plain.step(to_device(batch, trainer.device), progress)
    plain_result.loss.backward()
    assert torch.equal(result.loss, plain_result.loss)
    one, two = gradients(trainer.method), gradients(plain)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_processes_exchange_gradients_once_a_batch(crowd) -> None:
    trainer, batch, progress = begun(crowd, "pretrain", "micro_batch=1")
    alone = copy.deepcopy(trainer.method)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(trainer.method.student, broadcast_buffers=False)
        exchanged = []

        def hook(_, bucket):
            exchanged.append(bucket.is_last())
            done = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        wrapped.register_comm_hook(None, hook)
        trainer.method.student = wrapped
        trainer._gradient(batch, progress)
    finally:
        torch.distributed.destroy_process_group()
    assert exchanged.count(True) == 1
    with_group = gradients(trainer.method)
    trainer.method = alone
    trainer._gradient(batch, progress)
    torch.testing.assert_close(with_group, gradients(alone))


def test_every_pair_is_in_one_part_with_its_own_points(crowd) -> None:
    _, batch, _ = begun(crowd, "count")
    parts = micro_batches(batch, 3)
    assert [len(part.labelled.images) for part in parts] == [3, 1]
    points = [part.labelled.points[part.labelled.batch_index == 0] for part in parts]
    assert torch.equal(points[1], batch.labelled.points[batch.labelled.batch_index == 3]) and len(points[1])
    assert torch.equal(torch.cat([part.unlabelled.strong for part in parts]), batch.unlabelled.strong)


# Out of memory


class Memory:
    """In place of ``XMask.step``: memory for ``pairs`` at once. It runs out behind the forward pass, when batch norm
    has learned and random numbers were drawn; the loss depends on both."""

    def __init__(self, pairs: int, error: Exception | None = None) -> None:
        self.pairs, self.step = pairs, XMask.step
        self.error = error or torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        self.failures = 0

    def __call__(self, method: XMask, batch: Batch, progress: Progress):
        result = self.step(method, batch, progress)
        result.loss = result.loss * (1 + torch.rand(()))
        if len(batch.labelled.images) > self.pairs:
            self.failures += 1
            raise self.error
        return result


def give(monkeypatch, memory: Memory) -> Memory:
    monkeypatch.setattr(XMask, "step", lambda *arguments: memory(*arguments))
    return memory


class Halvings(Watcher):
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def micro_batch_halved(self, stage: str, micro_batch: int) -> None:
        self.told.append((stage, micro_batch))


def train(crowd, out: Path, *settings: str, auto_batch: bool = False) -> Halvings:
    told = Halvings()
    train_seg(
        crowd.data,
        masks=crowd.masks,
        config=config(*settings),
        out=out,
        device="cpu",
        announce=lambda *_: [told],
        auto_batch=auto_batch,
    )
    return told


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = (load_file(run / "weights.safetensors") for run in (first, second))
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_auto_batch_halves_and_ends_as_if_it_had_been_told(crowd, tmp_path, monkeypatch) -> None:
    memory = give(monkeypatch, Memory(2))
    told = train(crowd, tmp_path / "auto", "batch_size=8", auto_batch=True)
    assert told.told == [("pretrain", 4), ("pretrain", 2)] and memory.failures == 2
    train(crowd, tmp_path / "told", "batch_size=8", "micro_batch=2")
    assert memory.failures == 2
    assert_same_weights(tmp_path / "auto", tmp_path / "told")
    train_count(from_run=tmp_path / "auto", out=tmp_path / "count", device="cpu", auto_batch=True)
    assert memory.failures == 4


def test_without_it_the_run_stops_with_one_sentence_and_goes_on_from_there(crowd, tmp_path, monkeypatch) -> None:
    """Memory runs out first where the unlabelled crops come in, in the second epoch."""
    memory = give(monkeypatch, Memory(4))
    enough = memory.step

    def scarce(method, batch, progress):
        memory.pairs = 4 if batch.unlabelled is None else 2
        return enough(method, batch, progress)

    memory.step = scarce
    train(crowd, tmp_path / "auto", auto_batch=True)
    with pytest.raises(OutOfMemory, match=r"stage pretrain, epoch 1\.0, with 4 pairs.*--auto-batch.*micro_batch=2\.$"):
        train(crowd, tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "resume.pt", weights_only=True)
    assert (saved["stage"], saved["step"], saved["micro_batch"]) == ("pretrain", 2, 4)
    train_seg(out=tmp_path / "run", resume=True, device="cpu", auto_batch=True)
    assert_same_weights(tmp_path / "run", tmp_path / "auto")


def test_a_resumed_run_keeps_the_halved_micro_batch(crowd, tmp_path, monkeypatch) -> None:
    class Stopped(Exception):
        pass

    def stop(_: Watcher, step) -> None:
        if step.stage == "segment":
            raise Stopped

    memory = give(monkeypatch, Memory(2))
    monkeypatch.setattr(Halvings, "stepped", stop)
    with pytest.raises(Stopped):
        train(crowd, tmp_path / "run", "save_seconds=0", auto_batch=True)
    assert memory.failures == 1
    train_seg(out=tmp_path / "run", resume=True, device="cpu")
    assert memory.failures == 1


def test_a_single_pair_that_does_not_fit_is_the_end(crowd, tmp_path, monkeypatch) -> None:
    give(monkeypatch, Memory(0, RuntimeError(CPU_SHORTAGE)))
    with pytest.raises(OutOfMemory, match=r"single pair of the batch of 4.*--set crop=32") as error:
        train(crowd, tmp_path / "run", auto_batch=True)
    assert error.value.exit_code == 1 and "\n" not in str(error.value)


def test_where_halving_would_not_help_it_is_one_sentence_too(crowd, tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError(CPU_SHORTAGE)

    monkeypatch.setattr(torch.optim.Adam, "step", full)
    with pytest.raises(OutOfMemory, match=r"stage pretrain, and not in .*--set batch_size=2\.$"):
        train(crowd, tmp_path / "run", auto_batch=True)


def test_a_timing_without_memory_is_left_out(crowd, tmp_path, monkeypatch) -> None:
    found = []
    give(monkeypatch, Memory(0, RuntimeError(CPU_SHORTAGE)))
    train_seg(
        crowd.data,
        masks=crowd.masks,
        config=config(),
        out=tmp_path / "run",
        device="cpu",
        announce=lambda plan: found.append(plan.estimate()) or [],
        dry_run=True,
    )
    assert found == [None]


def test_other_errors_are_not_taken_for_it(crowd, tmp_path, monkeypatch) -> None:
    memory = give(monkeypatch, Memory(0, RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes"):
        train(crowd, tmp_path / "run", auto_batch=True)
    assert memory.failures == 1


def test_a_real_allocation_that_cannot_be_had_is_recognised() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 56, dtype=torch.uint8)
    assert is_shortage(error.value)


def test_several_processes_do_not_halve(crowd, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--auto-batch is for one process"):
        train(crowd, tmp_path / "run", auto_batch=True)


def test_the_halving_is_told_on_stderr(capsys) -> None:
    TrainingView().micro_batch_halved("count", 4)
    shown = capsys.readouterr()
    assert "micro_batch=4" in shown.err and shown.out == ""


@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_micro_batch_without_pairs_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=f"micro_batch={value} is out of range"):
        config(f"micro_batch={value}")
