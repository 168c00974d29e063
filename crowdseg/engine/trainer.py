"""The one training loop. It knows no loss and no network: those are the method's; it shows nothing: watchers do."""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crowdseg.config import StageConfig, TrainConfig
from crowdseg.engine.batch_norm import share_batch_norm
from crowdseg.engine.checkpoint import load_weights, save_resume, save_weights
from crowdseg.engine.device import Processes, autocast
from crowdseg.engine.loader import CropPairs, make_loader, to_device
from crowdseg.engine.memory import OutOfMemory, StateBefore, is_shortage, mean_result, micro_batches, shortage_as
from crowdseg.engine.training_data import TrainingData
from crowdseg.engine.validation import validate
from crowdseg.engine.watcher import StageInfo, StepInfo, Validation, Watcher
from crowdseg.errors import CrowdsegError, SetupError
from crowdseg.losses import unlabelled_weight
from crowdseg.methods import Batch, Method, Progress, StepResult
from crowdseg.models import Network


class Trainer:
    """Runs stages of a method over training data into a run folder."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        run: Path,
        method: Method,
        device: torch.device,
        processes: Processes,
        watchers: Sequence[Watcher] = (),
        record: dict[str, Any] | None = None,
        auto_batch: bool = False,
    ) -> None:
        self.config, self.data, self.run, self.method = config, data, run, method
        self.device, self.processes = device, processes
        self.watchers = list(watchers) if processes.is_first else []
        self.record = record or {}  # goes beside the weights
        self.auto_batch = auto_batch
        share = config.batch_size // processes.world
        self.micro_batch = min(config.micro_batch or share, share)
        self.best: Validation | None = None
        self.interrupted = False
        self.last_save = time.monotonic()

    def train(self, stages: Sequence[str], resume: dict[str, Any] | None) -> list[Validation]:
        """Run the stages from where ``resume`` says; returns the best validation of each stage run to its end here."""
        first = stages.index(resume["stage"]) if resume else 0
        best = []
        if self.config.compile:
            self.method.student.compile()  # in place: the names of its weights stay
        with self._interruptible():
            for stage in stages[first:]:
                if getattr(self.config, stage).epochs == 0:
                    continue
                with shortage_as(self._shortage_elsewhere(stage)):
                    self._run_stage(stages.index(stage), stage, resume)
                resume = None
                if self.best is not None:
                    best.append(self.best)
        return best

    # One stage

    def _run_stage(self, number: int, stage: str, resume: dict[str, Any] | None) -> None:
        whole = stage_info(self.config, stage, self.data.train_images)
        config, per_epoch, total = whole.config, whole.steps_per_epoch, whole.steps
        self.method.start_stage(stage)
        groups = self.method.parameter_groups(stage, config)
        optimizer = torch.optim.Adam(groups, weight_decay=config.weight_decay)
        start = self._restore(resume, optimizer) if resume else 0
        if not resume:
            self.best = None
        for watcher in self.watchers:
            watcher.stage_started(replace(whole, start_step=start))
        if not resume:
            # from now on this stage writes the weights; a resume file of the one before would take them for its own
            self._save(stage, 0, optimizer)

        rates = [group["lr"] for group in groups]
        bare = self.method.student
        self.method.student = self._distributed(bare)
        pairs = self._pairs(number, stage, config, per_epoch)
        loader = make_loader(pairs, start, total, self.processes.rank, self.processes.world)
        for step, batch in enumerate(loader, start):
            torch.manual_seed(_step_seed(self.config.seed, number, step, self.processes.rank))
            self.method.train_mode(stage)
            factor = _rate_factor(config, step / total)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            progress = Progress(stage, config, step / per_epoch, unlabelled_weight_at(config, step / per_epoch))
            try:
                logs = self._step(batch, progress, optimizer)
            except OutOfMemory:
                self._save(stage, step, optimizer)
                raise
            except RuntimeError as error:
                if self.config.compile and _is_compilers(error):
                    reason = str(error).split("\n", 1)[0]
                    raise SetupError(f"torch.compile fails here ({reason}): pass --set compile=false.") from error
                raise
            info = StepInfo(stage, step + 1, (step + 1) / per_epoch, config.lr * factor, self.config.batch_size, logs)
            for watcher in self.watchers:
                watcher.stepped(info)
            if self._validation_due(step + 1, per_epoch, total):
                self._validate(info)
            self._save_if_due(stage, step + 1, optimizer)
        self.method.student = bare
        self._take_best()

    def _step(self, batch: Batch, progress: Progress, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        result = self._fitting_gradient(batch, progress, optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        if not torch.isfinite(norm + result.loss):
            raise CrowdsegError(
                f"The loss became {result.loss.item()} (gradient norm {norm.item()}) in stage {progress.stage}, epoch "
                f"{progress.epoch:.1f}. {self._kept()} Try a lower rate, as in --set {progress.stage}.lr="
                f"{progress.config.lr / 2:g}."
            )
        optimizer.step()
        self.method.after_step()
        return {**result.logs, "gradient_norm": norm.detach()}

    def _fitting_gradient(self, batch: Batch, progress: Progress, optimizer: torch.optim.Optimizer) -> StepResult:
        """The batch's gradient, with ``auto_batch`` by smaller and smaller micro-batches until one fits.

        Raises:
            OutOfMemory: it does not fit; all is as before the batch.
        """
        while True:
            before = StateBefore(self.method.student, self.device)
            optimizer.zero_grad(set_to_none=True)
            try:
                return self._gradient(batch, progress)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
            # only here, behind the handler, is what the failed attempt held let go
            optimizer.zero_grad(set_to_none=True)
            before.restore()
            if not self.auto_batch or self.micro_batch == 1:
                raise OutOfMemory(self._shortage(progress))
            self.micro_batch //= 2
            for watcher in self.watchers:
                watcher.micro_batch_halved(progress.stage, self.micro_batch)

    def _gradient(self, batch: Batch, progress: Progress) -> StepResult:
        """Add up the gradient of the mean over the batch, micro-batch by micro-batch; loss and logs come detached."""
        parts = micro_batches(batch, self.micro_batch)
        shares = [len(part.labelled.images) / len(batch.labelled.images) for part in parts]
        results = []
        for part, share in zip(parts, shares, strict=True):
            with self._exchanging(part is parts[-1]):
                with autocast(self.device, self.config.amp):
                    result = self.method.step(to_device(part, self.device), progress)
                (share * result.loss).backward()
            results.append(StepResult(result.loss.detach(), result.logs))
        result = mean_result(results, shares)
        logs = self.processes.mean({**result.logs, "loss": result.loss})
        return StepResult(logs["loss"], logs)

    def _exchanging(self, last: bool) -> AbstractContextManager[None]:
        """Several processes tell one another the gradient when the last micro-batch has added to it."""
        student = self.method.student
        if last or not isinstance(student, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return student.no_sync()

    def _shortage(self, progress: Progress) -> str:
        at_once, whole = self.micro_batch, self.config.batch_size
        where = f"Memory ran out in stage {progress.stage}, epoch {progress.epoch:.1f}"
        if at_once == 1:
            return (
                f"{where}, with a single pair of the batch of {whole} at once: begin anew with smaller crops, as in "
                f"--set crop={max(32, self.config.crop // 64 * 32)}, or a smaller --backbone."
            )
        smaller = at_once // 2
        kept, how = "Nothing is lost", "--auto-batch"
        if self.processes.world > 1:  # what another process sees of it is that this one has gone
            kept, how = "What was saved last is kept", f"and micro_batch: {smaller} in its config.yaml"
        return (
            f"{where}, with {at_once} pairs of the batch of {whole} at once. {kept}: go on with --resume "
            f"--out {self.run} {how}, or begin anew with --set micro_batch={smaller}."
        )

    def _shortage_elsewhere(self, stage: str) -> str:
        return (
            f"Memory ran out in stage {stage}, and not in the network's step: free some and go on with --resume --out "
            f"{self.run}, or begin anew with --set batch_size={max(1, self.config.batch_size // 2)}."
        )

    def _kept(self) -> str:
        file = self.run / "weights.safetensors"
        return f"The last good weights are in {file}." if file.is_file() else "No weights were saved yet."

    def _pairs(self, number: int, stage: str, config: StageConfig, per_epoch: int) -> CropPairs:
        # With every image labelled, the same images serve without their labels
        unlabelled = self.data.unlabelled or self.data.labelled
        return CropPairs(
            self.config,
            number,
            self.data.labelled,
            unlabelled if config.unlabelled_max > 0 else [],
            None if stage == "pretrain" else self.data.masks.labels,
            per_epoch * self.config.batch_size,
            math.ceil(config.warmup_epochs * per_epoch) * self.config.batch_size,
        )

    def _distributed(self, student: nn.Module) -> nn.Module:
        if self.processes.world == 1:
            return student
        share_batch_norm(student)
        with warnings.catch_warnings():  # torch has a new name for it, which those before 2.13 do not know
            warnings.simplefilter("ignore", FutureWarning)
            # with a shared batch norm buffers are the same everywhere as it is
            return nn.parallel.DistributedDataParallel(student, broadcast_buffers=False)

    # Validation and checkpoints

    def _validation_due(self, step: int, per_epoch: int, total: int) -> bool:
        return step == total or step % (per_epoch * self.config.eval_every) == 0

    def _validate(self, info: StepInfo) -> None:
        if self.processes.is_first:
            assert isinstance(self.method.teacher, Network)
            validation = validate(self.method.teacher, self.data, self.config, info, self.best)
            if validation.best:
                self.best = validation
                save_weights(self.run, self.method.teacher, {**self.record, "val": validation.record()})
            for watcher in self.watchers:
                watcher.validated(validation)
        self._wait()

    def _take_best(self) -> None:
        """The next stage begins with the best weights of this one."""
        self._wait()
        for network in (self.method.teacher, self.method.student):
            load_weights(self.run, network)

    def _save_if_due(self, stage: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        stopping = self.processes.any(self.interrupted)  # all stop at the same step, else the others would wait
        if stopping or time.monotonic() - self.last_save >= self.config.save_seconds:
            self._save(stage, step, optimizer)
        if stopping:
            self._wait()
            raise KeyboardInterrupt

    def _save(self, stage: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        if self.processes.is_first:
            for watcher in self.watchers:
                watcher.saved()
            save_resume(self.run, self._resume_state(stage, step, optimizer))
            self.last_save = time.monotonic()

    def _resume_state(self, stage: str, step: int, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        student = getattr(self.method.student, "module", self.method.student)
        best = None if self.best is None else {**self.best.record(), "score": self.best.score, "best": True}
        return {
            "stage": stage,
            "step": step,
            "best": best,
            "micro_batch": self.micro_batch,
            "student": student.state_dict(),
            "teacher": self.method.teacher.state_dict(),
            "method": self.method.state(),
            "optimizer": optimizer.state_dict(),
            "watchers": {type(watcher).__name__: watcher.state() for watcher in self.watchers},
        }

    def _restore(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> int:
        self.method.student.load_state_dict(state["student"])
        self.method.teacher.load_state_dict(state["teacher"])
        self.method.load_state(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        for watcher in self.watchers:
            watcher.load_state(state.get("watchers", {}).get(type(watcher).__name__, {}))
        self.best = None if state["best"] is None else Validation(**state["best"])
        self.micro_batch = min(self.micro_batch, state.get("micro_batch", self.micro_batch))  # as far as it was halved
        return state["step"]

    def _wait(self) -> None:
        if self.processes.world > 1:
            torch.distributed.barrier()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the step in hand and save; a second Ctrl-C stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(*_: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        old = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in old.items():
                signal.signal(kind, handler)


def stage_info(config: TrainConfig, stage: str, train_images: int) -> StageInfo:
    """The whole of a stage, from its first step."""
    settings: StageConfig = getattr(config, stage)
    per_epoch = max(1, math.ceil(train_images / config.batch_size))
    return StageInfo(stage, settings, settings.epochs * per_epoch, per_epoch, 0)


def unlabelled_weight_at(config: StageConfig, epoch: float) -> float:
    """The weight of the unlabelled loss in an epoch of a stage."""
    return unlabelled_weight(
        epoch,
        warmup=config.warmup_epochs,
        base=config.unlabelled_start,
        rate=config.unlabelled_rate,
        limit=config.unlabelled_max,
    )


def _step_seed(*place: int) -> int:
    """For layers that draw (stochastic depth): a function of seed, stage, step and process, like the training items, so
    that a resumed run has nothing to restore and no two processes draw alike."""
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])


def _rate_factor(config: StageConfig, done: float) -> float:
    return 1.0 if config.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))


def _is_compilers(error: RuntimeError) -> bool:
    from torch._dynamo.exc import BackendCompilerFailed  # more than a second to import

    return isinstance(error, BackendCompilerFailed)
