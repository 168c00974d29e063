"""The three stages' training steps, from crops to weights, and how much of their time the network itself takes.

``network`` repeats the passes of a step, forward and backward, with the very same inputs and nothing around them.
``load`` makes a batch out of images that are in memory; with loader workers that goes on beside the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from benchmarks.common import Options, Report, plain
from benchmarks.timing import Clock, clocks, interleave
from crowdseg.config import TrainConfig, make_config
from crowdseg.data.synthetic import write_synthetic
from crowdseg.engine.device import Processes, autocast
from crowdseg.engine.loader import make_loader
from crowdseg.engine.trainer import Trainer, stage_info
from crowdseg.engine.training_data import TrainingData, training_data
from crowdseg.masks import prep_masks
from crowdseg.memory import keep_freed_memory
from crowdseg.methods import METHODS, Batch, Progress

WORK = Path("runs") / "training"
STAGES = ("pretrain", "segment", "count")
LEARNING_STEPS = 40  # they bring about a believable number of people
BATCHES = 8  # different ones, which take turns
SECONDS, QUICK_SECONDS = 10.0, 1.0  # for each stage and clock
NETWORKS = {
    "tiny, width 48, 4 pairs": (),
    "tiny, width 48, 4 pairs, bfloat16": ("amp=true",),
    "mobilenet_v2, width 64, 8 pairs": ("backbone=mobilenet_v2", "width=64", "batch_size=8"),
    "mobilenet_v2, width 64, 8 pairs, bfloat16": ("backbone=mobilenet_v2", "width=64", "batch_size=8", "amp=true"),
    "vgg16_bn, width 256, 2 pairs": ("backbone=vgg16_bn", "width=256", "batch_size=2"),
}


class Pass(NamedTuple):
    """One run of a network within a step; ``learns`` where a backward pass follows."""

    network: nn.Module
    inputs: tuple[Any, ...]
    learns: bool


class Timed(Trainer):
    """Takes single steps of any stage."""

    def start(self, stage: str) -> None:
        """Go to the last steps of a stage, with all images in memory."""
        self.stage, self.info = stage, stage_info(self.config, stage, self.data.train_images)
        self.method.start_stage(stage)
        self.optimizer = torch.optim.Adam(self.method.parameter_groups(stage, self.info.config))
        self.crops = self._pairs(STAGES.index(stage), stage, self.info.config, self.info.steps_per_epoch)
        list(self.batches(self.info.steps_per_epoch))

    def batches(self, number: int) -> Iterator[Batch]:
        return make_loader(self.crops, self.info.steps - number, self.info.steps)

    def step(self, batch: Batch, unlabelled_weight: float = 0.5) -> None:
        self.method.train_mode(self.stage)
        progress = Progress(self.stage, self.info.config, self.info.config.epochs, unlabelled_weight)
        self._step(batch, progress, self.optimizer)

    def passes(self, batch: Batch) -> list[Pass]:
        """What a step asks of the networks."""
        found: list[Pass] = []
        with _watched(self.method.student, True, found), _watched(self.method.teacher, False, found):
            self.step(batch)
        return found

    def repeat(self, passes: list[Pass]) -> None:
        self.method.train_mode(self.stage)
        for network, inputs, learns in passes:
            with torch.inference_mode(not learns), autocast(self.device, self.config.amp):
                outputs = [output for output in network(*inputs) if output is not None]
            if learns:
                outputs = [output for output in outputs if output.requires_grad]
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])


@contextmanager
def _watched(network: nn.Module, learns: bool, found: list[Pass]) -> Iterator[None]:
    hook = network.register_forward_pre_hook(lambda _, inputs: found.append(Pass(network, inputs, learns)))
    yield
    hook.remove()


@dataclass(frozen=True)
class Times:
    """Seconds of a batch: made, learnt from, and taken through the network alone."""

    load: float
    step: float
    network: float

    @classmethod
    def of(cls, trainer: Timed, clock: Clock, seconds: float) -> Times:
        batches = list(trainer.batches(BATCHES))
        turns, passes = cycle(batches), trainer.passes(batches[0])
        works = [
            lambda: list(trainer.batches(1)),
            lambda: trainer.step(next(turns)),
            lambda: trainer.repeat(passes),
        ]
        tasks = [lambda measure, work=work: measure(work) for work in works]
        return cls(*(median(samples) for samples in interleave(tasks, clock, seconds)))


def run(options: Options) -> Report:
    styles = {"network": "", "stage": "", "clock": "", "images_per_s": ".1f"}
    styles |= {
        "load_ms": ".1f",
        "step_ms": ".1f",
        "network_ms": ".1f",
        "outside_percent": ".1f",
        "in_step_percent": ".1f",
    }
    report = Report(
        "Training, behind the warm-up", [plain(*each) for each in styles.items()], lambda row: row["network"]
    )
    if options.device == "cpu":
        keep_freed_memory()
    networks = dict(list(NETWORKS.items())[:1]) if options.quick else NETWORKS
    data = _crowd(options.quick)
    for name, settings in track(networks.items(), "networks", console=Console(stderr=True)):
        config = make_config("demo", ratio=0.2, overrides=["workers=0", *settings])
        trainer = _trainer(config, data, options.device)
        for stage in STAGES:
            trainer.start(stage)
            for clock in clocks(options.device):
                times = Times.of(trainer, clock, QUICK_SECONDS if options.quick else SECONDS)
                report.add(network=name, stage=stage, clock=clock.name, **_values(times, config))
    return report


def _values(times: Times, config: TrainConfig) -> dict[str, float]:
    """Two images a pair. ``outside``: what of it all is not the network; ``in_step``: the same without loading."""
    whole = times.load + times.step
    return {
        "images_per_s": 2 * config.batch_size / whole,
        "load_ms": 1e3 * times.load,
        "step_ms": 1e3 * times.step,
        "network_ms": 1e3 * times.network,
        "outside_percent": 100 * (1 - times.network / whole),
        "in_step_percent": 100 * (1 - times.network / times.step),
    }


def _crowd(quick: bool) -> tuple[Path, Path]:
    """Images and their masks."""
    name, images, size, people = ("quick", 10, (96, 128), (3, 8)) if quick else ("crowd", 30, (384, 512), (20, 80))
    root = write_synthetic(WORK / name / "data", images, people, size, 0)
    return root, prep_masks(root, WORK / name / "masks", workers=1).folder


def _trainer(config: TrainConfig, data: tuple[Path, Path], device: str) -> Timed:
    """Of a network that has learnt a little to count."""
    torch.manual_seed(0)
    method = METHODS[config.method](config, "none")
    for network in (method.student, method.teacher):
        network.to(device).to(memory_format=torch.channels_last)
    found: TrainingData = training_data(*data, config)
    trainer = Timed(config, found, WORK, method, torch.device(device), Processes())
    trainer.start("pretrain")
    for batch in trainer.batches(LEARNING_STEPS):
        trainer.step(batch, unlabelled_weight=0.0)
    return trainer
