"""One run whatever it runs on: on one process or two, stopped or not; and what the settings of the loop mean."""

from __future__ import annotations

import csv
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from crowdseg.config import TrainConfig, make_config
from crowdseg.engine import train_seg
from crowdseg.engine.batch_norm import SharedBatchNorm, share_batch_norm
from crowdseg.engine.device import Processes
from crowdseg.engine.loader import make_loader
from crowdseg.engine.memory import micro_batches
from crowdseg.engine.trainer import Trainer
from crowdseg.engine.training_data import training_data
from crowdseg.engine.watcher import StepInfo, Watcher
from crowdseg.errors import UsageError
from crowdseg.methods import Batch, Progress
from crowdseg.methods.xmask import XMask, kept_statistics

SMALL = ["width=8", "crop=64", "batch_size=4", "ratio=0.5", "eval_every=1", "val_fraction=0"]
STAGES = [f"{stage}.epochs=2" for stage in ("pretrain", "segment", "count")]
STAGES += ["pretrain.warmup_epochs=1", "segment.warmup_epochs=1"]
# With what the teacher is sure of before it has learnt, every term of the losses is there and not 0
EVERY_TERM = ["xmask.background_weight=0.1", "xmask.single_peak_weight=0.1", "xmask.consistency_weight=0.1"]
EVERY_TERM += ["xmask.candidate_probability=0.5", "xmask.confident_probability=0.5", "xmask.energy_threshold=0.3"]
EVERY_TERM += [f"{name}=2e-4" for name in ("pretrain.lr", "pretrain.encoder_lr", "segment.lr", "count.lr")]


def config(*more: str) -> TrainConfig:
    return make_config("demo", overrides=[*SMALL, *STAGES, *more])


# One process and two

DOUBLE = [sys.executable, str(Path(__file__).with_name("double_run.py"))]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", DOUBLE[1]]


def launch(command: list[str], *arguments: object, **environment: str) -> subprocess.Popen[str]:
    whole = [*command, "train-seg", *map(str, arguments), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(whole, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def launch_pair(command: list[str], *arguments: object, **environment: str) -> list[tuple[int, str]]:
    """Two processes told of one another as torchrun does, without waiting for its own start: exit codes and stderr."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    pair = [launch(command, *arguments, **environment, **group, RANK=rank) for rank in ("0", "1")]
    said = [process.communicate(timeout=120)[1] for process in pair]
    return [(process.returncode, text) for process, text in zip(pair, said, strict=True)]


def new_run(crowd, out: Path, *more: str) -> list[object]:
    settings = [part for setting in [*SMALL, *STAGES, *EVERY_TERM, *more] for part in ("--set", setting)]
    return [crowd.data, "--masks", crowd.masks, "--preset", "demo", "--out", out, *settings]


@pytest.fixture(scope="module")
def two(crowd, tmp_path_factory) -> Path:
    """A run on two processes that was never stopped, a pair at a time in each."""
    run = tmp_path_factory.mktemp("processes") / "two"
    torchrun = launch(TORCHRUN, *new_run(crowd, run, "micro_batch=1"))
    said = torchrun.communicate(timeout=120)[1]
    assert torchrun.returncode == 0, said[-2000:]
    assert "Warning" not in said
    return run


def test_one_process_and_two_give_one_run(two: Path, crowd, tmp_path) -> None:
    """Weights, and the logs of every loss. To 1e-9: after these twelve steps rounding alone leaves 1e-12, and batch
    norm by each process's own images 1e-2."""
    alone = launch(DOUBLE, *new_run(crowd, tmp_path / "one", "micro_batch=2"))
    alone.communicate(timeout=120)
    assert alone.returncode == 0
    one, other = (load_file(run / "weights.safetensors") for run in (tmp_path / "one", two))
    assert one.keys() == other.keys() and one["fuse.mix.weight"].dtype == torch.float64
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: name + text)
    logs, others = (read_log(run) for run in (tmp_path / "one", two))
    assert others == pytest.approx(logs, rel=1e-5, abs=1e-7)  # as many digits are written
    unlabelled = {name: value for (_, _, name), value in logs.items() if name.endswith("_unlabelled")}
    assert len(unlabelled) == 8 and min(unlabelled.values()) > 0


def read_log(run: Path) -> dict[tuple[str, str, str], float]:
    with (run / "log.csv").open() as file:
        return {(row["stage"], row["step"], row["name"]): float(row["value"]) for row in csv.DictReader(file)}


def test_two_processes_go_on_to_the_same_weights(two: Path, crowd, tmp_path) -> None:
    """The first is killed in the middle of an epoch; later the second alone is told to stop: both stop together."""
    run = tmp_path / "run"
    killed, _ = launch_pair(DOUBLE, *new_run(crowd, run, "micro_batch=1", "save_seconds=0", "workers=1"), KILL="2")
    assert killed[0] == -signal.SIGKILL and place(run) == ("pretrain", 1)
    for code, said in launch_pair(DOUBLE, "--resume", "--out", run, INTERRUPT="4"):
        assert code == 130 and "crowdseg: Stopped." in said
    assert place(run) == ("segment", 1)
    assert [code for code, _ in launch_pair(DOUBLE, "--resume", "--out", run)] == [0, 0]
    assert read_log(run) == read_log(two)
    one, other = (load_file(folder / "weights.safetensors") for folder in (run, two))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def place(run: Path) -> tuple[str, int]:
    saved = torch.load(run / "resume.pt", weights_only=True)
    return saved["stage"], saved["step"]


def test_two_processes_are_refused_auto_batch_in_one_sentence(crowd, tmp_path) -> None:
    """Each of them, before it waits for the others."""
    installed = [str(Path(sys.executable).with_name("crowdseg"))]
    process = launch(installed, *new_run(crowd, tmp_path / "run"), "--auto-batch", RANK="1", WORLD_SIZE="2")
    assert " ".join(process.communicate(timeout=60)[1].split()) == (
        "crowdseg: --auto-batch is for one process: with several set micro_batch, for a resumed run in its config.yaml."
    )
    assert process.returncode == 2 and not (tmp_path / "run").exists()


def test_what_the_first_process_refuses_ends_all(monkeypatch) -> None:
    """Without waiting for one that has gone."""
    told: list[object] = []

    def broadcast(objects: list[object], src: int) -> None:
        if any(objects):
            told[:] = objects
        objects[:] = told

    def refuse() -> None:
        raise UsageError("holds a run already")

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    for rank in (0, 1):
        with pytest.raises(UsageError, match="holds a run already"):
            Processes(rank, 2).agree(refuse if rank == 0 else lambda: pytest.fail("decided by another process"))


def test_the_processes_share_each_batch_and_each_micro_batch_of_one_process(crowd) -> None:
    """Part k of both processes together is part k, twice as large, of one."""
    trainer, _, _ = begun(crowd, "pretrain", "batch_size=6")
    pairs = trainer._pairs(0, "pretrain", trainer.config.pretrain, 2)
    alone = next(make_loader(pairs, 3, 4))
    shared = [next(make_loader(pairs, 3, 4, rank, 2)) for rank in (0, 1)]
    for whole, *parts in zip(micro_batches(alone, 4), *(micro_batches(each, 2) for each in shared), strict=True):
        together = torch.cat([part.labelled.images for part in parts])
        assert sorted(map(float, together.sum((1, 2, 3)))) == sorted(map(float, whole.labelled.images.sum((1, 2, 3))))
        assert sum(len(part.labelled.points) for part in parts) == len(whole.labelled.points)


# Batch norm


@pytest.fixture
def group() -> Iterator[None]:
    """This process as a group of its own."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def norms(dtype: torch.dtype = torch.float32, **settings: float | None) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.BatchNorm2d(5, **settings)).to(dtype)
    nn.init.uniform_(plain[0].weight), nn.init.uniform_(plain[0].bias)
    shared = nn.Sequential(nn.BatchNorm2d(5, **settings)).to(dtype)
    shared.load_state_dict(plain.state_dict())
    share_batch_norm(shared)
    assert isinstance(shared[0], SharedBatchNorm) and isinstance(shared[0], nn.BatchNorm2d)
    return plain, shared


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_shared_batch_norm_is_batch_norm(group, momentum: float | None, device: str) -> None:
    plain, shared = (network.to(device) for network in norms(torch.float64, momentum=momentum))
    for _ in range(3):
        first = torch.randn(4, 5, 6, 7, dtype=torch.float64, device=device).mul_(3).add_(2)
        images = [first.clone().requires_grad_() for _ in range(2)]
        for network, own in zip((plain, shared), images, strict=True):
            (network(own) ** 3).mean().backward()
        torch.testing.assert_close(images[1].grad, images[0].grad)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(dict(shared.named_parameters())[name].grad, parameter.grad)
    torch.testing.assert_close(shared.state_dict(), plain.state_dict())
    torch.testing.assert_close(shared.eval()(images[0]), plain.eval()(images[0]))


def test_shared_batch_norm_keeps_statistics_where_told(group) -> None:
    plain, shared = norms()
    for network in (plain, shared):
        with kept_statistics(network):
            network(torch.randn(4, 5, 6, 6))
    assert torch.equal(shared[0].running_mean, torch.zeros(5)) and torch.equal(shared[0].running_var, torch.ones(5))
    torch.testing.assert_close(shared.state_dict(), plain.state_dict())


def test_shared_batch_norm_holds_its_digits(group) -> None:
    """Beside a mean a thousand times the deviation, and in half precision."""
    plain, shared = norms()
    far = torch.randn(4, 5, 6, 6) + 1000
    torch.testing.assert_close(shared(far), plain(far), rtol=1e-3, atol=1e-3)
    half = torch.randn(4, 5, 6, 6).bfloat16()
    assert shared(half).dtype == torch.bfloat16
    torch.testing.assert_close(shared(half), plain(half), rtol=0.02, atol=0.02)


# Stopped and gone on


class Killed(Exception):
    """Stands for kill -9: nothing is saved behind it."""


class Killer(Watcher):
    def __init__(self, stage: str, step: int) -> None:
        self.place = (stage, step)

    def stepped(self, step: StepInfo) -> None:
        if (step.stage, step.step) == self.place:
            raise Killed


class Drawing(XMask):
    """Draws in every step, as stochastic depth does."""

    def step(self, batch: Batch, progress: Progress):
        result = super().step(batch, progress)
        result.loss = result.loss * (1 + torch.rand(()))
        return result


def test_a_run_with_workers_that_draws_goes_on_to_the_same_weights(crowd, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("crowdseg.methods.METHODS", {"xmask": Drawing})
    settings = config("workers=2", "save_seconds=0", "pretrain.epochs=1")
    common = {"masks": crowd.masks, "config": settings, "device": "cpu"}
    train_seg(crowd.data, out=tmp_path / "whole", **common)
    with pytest.raises(Killed):
        train_seg(crowd.data, out=tmp_path / "run", announce=lambda *_: [Killer("segment", 2)], **common)
    assert place(tmp_path / "run") == ("segment", 1)
    train_seg(out=tmp_path / "run", resume=True, device="cpu")
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "run"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# What the settings mean


def begun(crowd, stage: str, *more: str) -> tuple[Trainer, Batch, Progress]:
    """A trainer at the beginning of a stage, and its first batch."""
    settings = config(*more)
    torch.manual_seed(3)
    method = XMask(settings, "none")
    data = training_data(crowd.data, crowd.masks, settings)
    trainer = Trainer(settings, data, Path("none"), method, torch.device("cpu"), Processes())
    method.start_stage(stage)
    method.train_mode(stage)
    own = getattr(settings, stage)
    batch = next(make_loader(trainer._pairs(0, stage, own, 2), 0, 1))
    return trainer, batch, Progress(stage, own, 0.0, 0.0)


def stepped(crowd, clip_norm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient that the optimiser was given, flat, and the norm that is logged."""
    trainer, batch, progress = begun(crowd, "pretrain", f"clip_norm={clip_norm}")
    optimizer = torch.optim.Adam(trainer.method.parameter_groups("pretrain", progress.config))
    logs = trainer._step(batch, progress, optimizer)
    grads = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
    return torch.cat(grads), logs["gradient_norm"]


def test_gradients_are_clipped_by_the_norm_of_them_all(crowd) -> None:
    free, norm = stepped(crowd, 1e6)
    torch.testing.assert_close(norm, free.norm())
    clipped, logged = stepped(crowd, float(norm) / 4)
    torch.testing.assert_close(logged, norm)  # the one before clipping
    torch.testing.assert_close(clipped, free / 4, rtol=1e-4, atol=1e-7)


def test_rates_and_the_unlabelled_weight_follow_the_schedule(crowd, tmp_path, monkeypatch) -> None:
    """Step by step, as Adam and the method get them: cosine in ``pretrain``, constant in ``segment``."""
    rates, weights = [], []
    plain_adam, plain_step = torch.optim.Adam.step, XMask.step

    def adam(self, *arguments):
        rates.append([group["lr"] for group in self.param_groups])
        return plain_adam(self, *arguments)

    def step(self, batch, progress):
        weights.append(progress.unlabelled_weight)
        return plain_step(self, batch, progress)

    monkeypatch.setattr(torch.optim.Adam, "step", adam)
    monkeypatch.setattr(XMask, "step", step)
    more = ["pretrain.epochs=3", "pretrain.lr=0.004", "pretrain.encoder_lr=0.001", "pretrain.unlabelled_rate=0.4"]
    more += ["pretrain.unlabelled_max=0.5", "segment.schedule=constant", "segment.mask_lr=0.003", "segment.lr=0.002"]
    settings = config(*more, "segment.epochs=1")
    train_seg(crowd.data, masks=crowd.masks, config=settings, out=tmp_path / "run", device="cpu")
    half = [0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert half[0] == 1 and half[4] == pytest.approx(0.25)
    assert rates[:6] == [pytest.approx([0.001 * f, 0.004 * f, 0.004 * f]) for f in half]  # encoder, fuse, density head
    assert rates[6:] == [pytest.approx([0.002, 0.002, 0.003])] * 2  # fuse, density head, mask head
    # 8 images in batches of 4: epochs of two steps, of which the first is the warm-up
    assert weights[:6] == pytest.approx([0, 0, 0, 0.2, 0.4, 0.5])
