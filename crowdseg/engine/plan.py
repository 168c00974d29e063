"""What a run will do, and how long that will take."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from crowdseg.config import TrainConfig
from crowdseg.data.images import read_image
from crowdseg.engine.device import Processes
from crowdseg.engine.inference import predict_image
from crowdseg.engine.loader import make_loader
from crowdseg.engine.memory import shortage_as
from crowdseg.engine.trainer import Trainer, stage_info, unlabelled_weight_at
from crowdseg.engine.training_data import TrainingData
from crowdseg.engine.validation import looked_at
from crowdseg.engine.watcher import StageInfo
from crowdseg.errors import CrowdsegError
from crowdseg.methods import Method, Progress
from crowdseg.methods.base import Task
from crowdseg.models import Network

STEPS = 3  # timed at most; the quickest counts
SECONDS = 1.0  # no further step after so long, and a batch that takes longer is timed with one pair and scaled up

Tick = Callable[[], None]


@dataclass(frozen=True)
class StageTime:
    """Expected seconds: of a step on labelled crops alone and with unlabelled ones (None where the stage has no such
    steps), of one validation, and of the whole stage."""

    labelled_step: float | None
    full_step: float | None
    validation: float
    total: float


@dataclass(frozen=True)
class TrainingPlan:
    """What a run is about to do, all defaults filled in.

    Attributes:
        run: its folder.
        start: the run whose weights it takes, or None.
        stages: names, in order; those without epochs are left out.
        resumed: it goes on from where it was stopped.
    """

    run: Path
    task: Task
    config: TrainConfig
    data: TrainingData
    method: Method
    start: Path | None
    stages: list[str]
    device: torch.device
    processes: Processes
    resumed: bool

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return sum(parameter.numel() for parameter in self.method.teacher.parameters())

    def stage(self, name: str) -> StageInfo:
        return stage_info(self.config, name, self.data.train_images)

    def validations(self, name: str) -> int:
        """How often the stage is validated."""
        return math.ceil(self.stage(name).config.epochs / self.config.eval_every)

    def estimate(self, tick: Tick = lambda: None) -> dict[str, StageTime] | None:
        """The time of each stage, from a few real steps of this process; None where they fail.

        The run is not touched: the steps are taken on a copy of the networks and random states are put back. What
        several processes tell one another is not in it. ``tick`` is called three times a stage.
        """
        gpus = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(gpus):
            method = copy.deepcopy(self.method)
            try:
                with shortage_as("No memory for the timing."):
                    # the very first work sets things up
                    _Rehearsal.of(self, method, 1).seconds(self.stages[0], late=False)
                    return {stage: self._stage_time(method, stage, tick) for stage in self.stages}
            except CrowdsegError:
                return None  # if it matters, the run itself will say what is wrong

    def _stage_time(self, method: Method, stage: str, tick: Tick) -> StageTime:
        info = self.stage(stage)
        warm_up = min(math.ceil(info.config.warmup_epochs * info.steps_per_epoch), info.steps)
        if info.config.unlabelled_max <= 0:
            warm_up = info.steps
        labelled = self._step_seconds(method, stage, late=False) if warm_up else None
        tick()
        full = self._step_seconds(method, stage, late=True) if warm_up < info.steps else None
        tick()
        validation = self._validation_seconds(method, stage)
        tick()
        steps = warm_up * (labelled or 0) + (info.steps - warm_up) * (full or 0)
        return StageTime(labelled, full, validation, steps + self.validations(stage) * validation)

    def _step_seconds(self, method: Method, stage: str, late: bool) -> float:
        """Of this process's share of a batch: loading and learning side by side, as far as workers and cores allow."""
        share = self.config.batch_size // self.processes.world
        load, learn = _Rehearsal.of(self, method, 1).seconds(stage, late)
        if learn * share <= SECONDS:
            load, learn = _Rehearsal.of(self, method, share).seconds(stage, late)
        else:
            load, learn = load * share, learn * share
        if self.config.workers == 0:
            return load + learn
        cores = os.cpu_count() or 1
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        return max(learn, load / self.config.workers, (load + learn * threads) / cores)

    def _validation_seconds(self, method: Method, stage: str) -> float:
        """From the smallest image, by the number of pixels."""
        samples = looked_at(self.data, self.config)
        if not samples:
            return 0.0
        assert isinstance(method.teacher, Network)
        smallest = min(samples, key=lambda sample: math.prod(sample.size))
        began = time.monotonic()
        image = read_image(smallest.image)
        predict_image(method.teacher, image, self.config.xmask, masks=stage == "segment", amp=self.config.amp)
        pixels = sum(math.prod(sample.size) for sample in samples)
        return (time.monotonic() - began) * pixels / math.prod(smallest.size)


class _Rehearsal(Trainer):
    """Takes a few steps of a stage on real batches, and keeps nothing."""

    @classmethod
    def of(cls, plan: TrainingPlan, method: Method, batch_size: int) -> _Rehearsal:
        config = replace(plan.config, batch_size=batch_size, workers=0)
        return cls(config, plan.data, plan.run, method, plan.device, Processes())

    def seconds(self, stage: str, late: bool) -> tuple[float, float]:
        """Seconds to load a batch and to learn from it, at the stage's first step or (``late``) at its last."""
        info = stage_info(self.config, stage, self.data.train_images)
        step, epoch = (info.steps - 1, info.config.epochs) if late else (0, 0)
        progress = Progress(stage, info.config, epoch, unlabelled_weight_at(info.config, epoch) if late else 0.0)
        self.method.start_stage(stage)
        optimizer = torch.optim.Adam(self.method.parameter_groups(stage, info.config))
        pairs = self._pairs(0, stage, info.config, info.steps_per_epoch)
        loads = [_timed(lambda: next(make_loader(pairs, step, step + 1)), self.device) for _ in range(2)]
        batch = next(make_loader(pairs, step, step + 1))

        def learn() -> None:
            self.method.train_mode(stage)
            self._step(batch, progress, optimizer)

        learned = [_timed(learn, self.device)]
        while len(learned) < STEPS and sum(learned) < SECONDS:
            learned.append(_timed(learn, self.device))
        # the first time an image is decoded; later only where not all of them stay in memory
        return loads[pairs.cache.would_hold(self.data.train_images)], min(learned)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    began = time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.monotonic() - began
