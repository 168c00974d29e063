"""The contract between the training loop and a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from crowdseg.config import StageConfig, TrainConfig

Task = Literal["seg", "count"]


@dataclass
class Labelled:
    """Crops with their annotation.

    ``images`` ``(B, 3, S, S)`` normalised; ``points`` ``(sum N, 2)`` with ``batch_index`` ``(sum N,)``; ``labels``
    ``(B, S, S)`` int32 pseudo-masks prepared from the points, 0 background.
    """

    images: Tensor
    points: Tensor
    batch_index: Tensor
    labels: Tensor


@dataclass
class Unlabelled:
    """The same crops weakly and strongly augmented, ``(B, 3, S, S)``; ``keep`` ``(B, S, S)`` is False where cut out."""

    weak: Tensor
    strong: Tensor
    keep: Tensor


@dataclass
class Batch:
    labelled: Labelled
    unlabelled: Unlabelled | None


@dataclass(frozen=True)
class Progress:
    """Where training stands: the stage's name and settings, the epoch as a fraction, the unlabelled loss's weight."""

    stage: str
    config: StageConfig
    epoch: float
    unlabelled_weight: float


@dataclass
class StepResult:
    """The loss to minimise and every part of it by name (detached)."""

    loss: Tensor
    logs: dict[str, Tensor]


class Method(ABC):
    """A way to learn from weak labels. The engine owns device, optimiser, schedule, checkpoints, seeds and logs.

    Attributes:
        name: its name in ``METHODS``.
        stages: task -> names of the stages that train it, in order.
        student: the network that is trained (the engine may wrap it for several processes).
        teacher: the network that predicts, is evaluated and saved.
    """

    name: ClassVar[str]
    stages: ClassVar[dict[Task, tuple[str, ...]]]
    student: nn.Module
    teacher: nn.Module

    @abstractmethod
    def __init__(self, config: TrainConfig, backbone_weights: str) -> None:
        """Build the networks."""

    @abstractmethod
    def start_stage(self, stage: str) -> None:
        """Choose what trains: sets ``requires_grad`` and forgets what belongs to the stage before."""

    @abstractmethod
    def parameter_groups(self, stage: str, config: StageConfig) -> list[dict[str, Any]]:
        """Optimiser groups of the stage, each with its learning rate."""

    @abstractmethod
    def train_mode(self, stage: str) -> None:
        """Put the networks in the stage's mode (frozen parts in eval mode)."""

    @abstractmethod
    def step(self, batch: Batch, progress: Progress) -> StepResult:
        """One forward pass with its losses."""

    def after_step(self) -> None:  # noqa: B027  a method without a teacher has nothing to do
        """Called after the optimiser's step."""

    def state(self) -> dict[str, Any]:
        """Whatever is needed to resume beside the two networks."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Inverse of :meth:`state`."""
