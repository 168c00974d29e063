"""A training step of XMask's second stage with the small backbone: 4 labelled and 4 unlabelled crops of 256 x 256.

The network first learns these crops for a few seconds, so that it finds about as many people as there are: all
pseudo-labels, and with them the operators' work, come from what it finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.agreement import HINGE_ROUNDING, near
from benchmarks.common import Options, Report
from benchmarks.compare import Operator, compare
from crowdseg.config import TrainConfig, make_config
from crowdseg.data.synthetic import draw_scene
from crowdseg.methods import METHODS, Batch, Labelled, Method, Progress, Unlabelled
from crowdseg.models import normalise

LEARN, STAGE = "pretrain", "segment"
LEARNING_STEPS, LEARNING_RATE = 60, 2e-3


@dataclass(frozen=True, eq=False)
class Step:
    """A method and a batch. ``count`` is people per crop."""

    config: TrainConfig
    count: int
    device: str
    layout: str = "drawn"

    @property
    def size(self) -> tuple[int, int]:
        return self.config.crop, self.config.crop

    @property
    def batch(self) -> int:
        return self.config.batch_size

    def first(self, count: int) -> Step:
        raise ValueError(f"a step is one whole; it has no part of {count} people")

    @cached_property
    def crops(self) -> Batch:
        random = np.random.default_rng(0)
        labelled, unlabelled = ([draw_scene(random, self.size, self.count) for _ in range(self.batch)] for _ in "lu")
        images = self._tensor([scene.image for scene in labelled])
        points = self._tensor([scene.points for scene in labelled]).float().flatten(0, 1)
        batch_index = torch.arange(self.batch, device=self.device).repeat_interleave(self.count)
        labels = self._tensor([scene.labels for scene in labelled]).int()
        keep = torch.ones_like(labels, dtype=torch.bool)
        keep[:, 64:112, 96:144] = False  # a cut-out
        weak = normalise(self._tensor([scene.image for scene in unlabelled]).movedim(-1, 1))
        return Batch(
            Labelled(normalise(images.movedim(-1, 1)), points, batch_index, labels),
            Unlabelled(weak, weak * keep[:, None], keep),
        )

    def _tensor(self, arrays: list[NDArray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device)

    @cached_property
    def method(self) -> Method:
        """Having learnt to count the crops, and at its second stage."""
        torch.manual_seed(0)
        method = METHODS[self.config.method](self.config, "none")
        for network in (method.student, method.teacher):
            network.to(self.device)
        method.start_stage(LEARN)
        method.train_mode(LEARN)
        optimizer = torch.optim.Adam(method.student.parameters(), LEARNING_RATE)
        for _ in range(LEARNING_STEPS):
            optimizer.zero_grad()
            method.step(self.crops, Progress(LEARN, self.config.pretrain, 0.0, 0.0)).loss.backward()
            optimizer.step()
            method.after_step()
        method.start_stage(STAGE)
        method.train_mode(STAGE)
        return method


def run(options: Options) -> Report:
    operator = Operator("Training step, stage 2, small backbone", step, agree)
    counts = (20,) if options.quick else (20, 60)
    return compare(operator, [Step(make_config("demo"), count, options.device) for count in counts], options)


def step(scene: Step) -> tuple[Tensor, Tensor]:
    """The loss and all gradients in one row."""
    student = scene.method.student
    student.zero_grad()
    loss = scene.method.step(scene.crops, Progress(STAGE, scene.config.segment, 0.0, 1.0)).loss
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])


def agree(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], _: Step) -> None:
    near(found[0], expected[0])
    near(found[1], expected[1], HINGE_ROUNDING)
