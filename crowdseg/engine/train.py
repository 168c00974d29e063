"""``train_seg`` and ``train_count``: from a prepared dataset to a run folder."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from crowdseg import __version__, files
from crowdseg.config import TrainConfig, config_text, make_config, read_config
from crowdseg.engine.checkpoint import find_run, load_resume, load_weights, new_run_folder, read_last
from crowdseg.engine.device import Processes, choose_device, join_processes, processes_started
from crowdseg.engine.logs import RunLog
from crowdseg.engine.plan import TrainingPlan
from crowdseg.engine.records import read_record
from crowdseg.engine.trainer import Trainer
from crowdseg.engine.training_data import TrainingData, training_data
from crowdseg.engine.watcher import Validation, Watcher
from crowdseg.errors import UsageError
from crowdseg.memory import keep_freed_memory
from crowdseg.methods import method_class
from crowdseg.methods.base import Task

Announce = Callable[[TrainingPlan], Sequence[Watcher]]


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, and what the best weights reached on the validation images at each stage's end."""

    run: Path
    stages: list[dict[str, Any]]
    seconds: float


def train_seg(
    data: Path | str | None = None,
    *,
    from_run: Path | str | None = None,
    config: TrainConfig | None = None,
    masks: Path | str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    resume: bool = False,
    announce: Announce | None = None,
    dry_run: bool = False,
    auto_batch: bool = False,
) -> TrainResult:
    """Train the stages that learn to count and to segment (``pretrain``, ``segment``) and write a run folder.

    Args:
        data: a dataset as downloaded, or None for the one of the last prep-masks in this folder.
        from_run: a run whose weights are taken to begin with; its settings and dataset are the defaults. A run that
            ended with ``pretrain`` goes on with ``segment`` where ``pretrain.epochs`` is 0.
        config: all settings, see :func:`crowdseg.config.make_config`; default the preset ``sha-10``.
        masks: the prep-masks folder of the dataset, where it is not the default one.
        out: the run folder; default a new one in ``runs/seg``.
        resume: go on with ``out``, or with the newest unfinished run, under its own settings.
        announce: called with the plan before anything is written; returns watchers that follow the run.
        dry_run: stop behind ``announce``: nothing is written.
        auto_batch: where memory runs out, halve the micro-batch and do the batch again. One process only.

    Raises:
        UsageError, DataError, SetupError, CrowdsegError: see :mod:`crowdseg.errors`.
    """
    request = _Request("seg", data, config, masks, out, device, resume, announce, dry_run, from_run, auto_batch)
    return _train(request)


def train_count(
    data: Path | str | None = None,
    *,
    from_run: Path | str | None = None,
    config: TrainConfig | None = None,
    masks: Path | str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    resume: bool = False,
    announce: Announce | None = None,
    dry_run: bool = False,
    auto_batch: bool = False,
) -> TrainResult:
    """Train mask-constrained counting (stage ``count``) from a run of :func:`train_seg`; arguments as there.

    Args:
        from_run: the run to begin from; default the newest in ``runs/seg``. Its settings and dataset are the defaults.
    """
    request = _Request("count", data, config, masks, out, device, resume, announce, dry_run, from_run, auto_batch)
    return _train(request)


@dataclass(frozen=True)
class _Request:
    """What was asked for."""

    task: Task
    data: Path | str | None
    config: TrainConfig | None
    masks: Path | str | None
    out: Path | str | None
    device: str
    resume: bool
    announce: Announce | None
    dry_run: bool
    from_run: Path | str | None
    auto_batch: bool


@dataclass(frozen=True)
class _Chosen:
    """What was asked for, with every default filled in. ``start`` is the run whose weights are taken."""

    config: TrainConfig
    data: Path | str | None
    masks: Path | str | None
    run: Path
    start: Path | None


def _train(request: _Request) -> TrainResult:
    started = time.monotonic()
    if request.auto_batch and processes_started() > 1:
        raise UsageError(
            "--auto-batch is for one process: with several set micro_batch, for a resumed run in its config.yaml."
        )
    processes, device = join_processes(choose_device(request.device))
    chosen = processes.agree(lambda: _resumed(request) if request.resume else _begun(request))
    data = training_data(chosen.data, chosen.masks, chosen.config)
    record = _record(request.task, chosen.config, data, device)
    if request.resume:
        _check_same_data(chosen.run, record)
    plan = _plan(request, chosen, data, device, processes)
    watchers = list(request.announce(plan)) if request.announce and processes.is_first else []
    best = [] if request.dry_run else _carry_out(plan, record, watchers, request.auto_batch)
    processes.leave()
    return TrainResult(plan.run, [validation.record() for validation in best], time.monotonic() - started)


def _record(task: Task, config: TrainConfig, data: TrainingData, device: torch.device) -> dict[str, Any]:
    """What is saved of a run beside its weights."""
    return {
        "method": config.method,
        "task": task,
        "config": asdict(config),
        "data": data.describe(),
        "versions": {"crowdseg": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": str(device),
    }


def _plan(
    request: _Request, chosen: _Chosen, data: TrainingData, device: torch.device, processes: Processes
) -> TrainingPlan:
    config = chosen.config
    if config.batch_size % processes.world:
        raise UsageError(f"batch_size={config.batch_size} cannot be shared by {processes.world} processes.")
    kind = method_class(config.method)
    stages = [stage for stage in kind.stages[request.task] if getattr(config, stage).epochs]
    if not stages:
        settings = " and ".join(f"{stage}.epochs" for stage in kind.stages[request.task])
        raise UsageError(f"Nothing to train: {settings} are 0.")
    torch.manual_seed(config.seed)
    # Without a run behind it a plan needs no weights, which may have to be downloaded
    method = kind(config, "none" if chosen.start or request.dry_run else config.backbone_weights)
    for network in (method.student, method.teacher):
        if chosen.start is not None:
            load_weights(chosen.start, network)
        network.to(device).to(memory_format=torch.channels_last)  # in which convolutions are quickest
    return TrainingPlan(
        chosen.run, request.task, config, data, method, chosen.start, stages, device, processes, request.resume
    )


def _carry_out(
    plan: TrainingPlan, record: dict[str, Any], watchers: list[Watcher], auto_batch: bool
) -> list[Validation]:
    run, first = plan.run, plan.processes.is_first
    if first:
        files.write_text(run / "config.yaml", config_text(plan.config))
        start = None if plan.start is None else str(plan.start.resolve())
        files.write_json(run / "run.json", {**record, "from": start})
        watchers = [RunLog(run), *watchers]
    resume_state = load_resume(run) if plan.resumed else None
    if plan.device.type == "cpu":
        keep_freed_memory()
    trainer = Trainer(
        plan.config, plan.data, run, plan.method, plan.device, plan.processes, watchers, record, auto_batch
    )
    best = trainer.train(method_class(plan.config.method).stages[plan.task], resume_state)
    if first:
        (run / "resume.pt").unlink(missing_ok=True)
        files.write_json(run / "run.json", {**files.read_json(run / "run.json"), "finished": True})
    return best


def _begun(request: _Request) -> _Chosen:
    """A new run: settings, dataset and masks from the request, else from the run it begins from."""
    config, data, masks, start = request.config, request.data, request.masks, None
    if request.task == "count" or request.from_run is not None:
        parent = find_run(request.from_run, "seg")
        start = parent.folder
        data, masks = _dataset(request, start)
        known = read_record(start / "run.json", "task")
        if not known.get("finished"):
            command = f"crowdseg train-{known['task']} --resume --out {start}"
            raise UsageError(f"{start} is not finished: `{command}` goes on with it.")
        config = config or read_config(start / "config.yaml")
        _check_same_network(start, config)
    config = config or make_config()
    name = f"{Path(data or masks or read_last().get('data', 'run')).resolve().name}-{config.preset}"
    run = Path(request.out) if request.out else new_run_folder(request.task, name)
    if (run / "run.json").is_file():
        raise UsageError(f"{run} holds a run already: pass --resume to go on with it, or another --out.")
    return _Chosen(config, data, masks, run, start)


def _dataset(request: _Request, start: Path) -> tuple[Path | str, Path | str | None]:
    """Dataset and masks of the request, else those of the run that it begins from."""
    record = read_record(start / "weights.json")
    if request.task == "count" and not record.get("masks", True):
        raise UsageError(f"{start} draws no masks, and train-count learns from them: name another run with --from.")
    if request.data is not None:
        return request.data, request.masks
    if "imported" in record:
        raise UsageError(
            f"{start} holds imported weights, which do not tell what they were trained on: name a dataset."
        )
    known = read_record(start / "weights.json", "data.root", "data.masks")["data"]
    return known["root"], request.masks or known["masks"]


def _check_same_network(start: Path, config: TrainConfig) -> None:
    known = read_config(start / "config.yaml")
    for name in ("backbone", "width"):
        theirs, ours = getattr(known, name), getattr(config, name)
        if theirs != ours:
            raise UsageError(
                f"The weights of {start} are of a network with {name}={theirs}, and the settings ask for {ours}: name "
                "another run with --from, or leave the settings to it."
            )


def _resumed(request: _Request) -> _Chosen:
    """The run to go on with: everything but the device comes from its folder."""
    if any(each is not None for each in (request.data, request.masks, request.config, request.from_run)):
        raise UsageError("A resumed run keeps its own data and settings: name only the run to go on with, or nothing.")
    run = Path(request.out) if request.out else _newest_unfinished(request.task)
    if not (run / "run.json").is_file():
        raise UsageError(f"{run} is not a run, so it cannot be resumed.")
    known = read_record(run / "run.json", "task", "data.root", "data.masks")
    if known.get("finished"):
        raise UsageError(f"The run {run} is finished: nothing to resume.")
    if known["task"] != request.task:
        raise UsageError(f"{run} is a run of train-{known['task']}: resume it with that command.")
    start = Path(known["from"]) if known.get("from") else None
    return _Chosen(read_config(run / "config.yaml"), known["data"]["root"], known["data"]["masks"], run, start)


def _newest_unfinished(task: Task) -> Path:
    records = [file for file in (files.RUNS / task).glob("*/run.json") if not read_record(file).get("finished")]
    if not records:
        raise UsageError(f"There is no unfinished run in {files.RUNS / task} to resume.")
    return max(records, key=lambda file: file.stat().st_mtime).parent


def _check_same_data(run: Path, record: dict[str, Any]) -> None:
    if read_record(run / "run.json", "data")["data"] != record["data"]:
        raise UsageError(
            f"{record['data']['root']}, or the choice of its labelled images, has changed since {run} began: begin a "
            "new run with another --out."
        )
