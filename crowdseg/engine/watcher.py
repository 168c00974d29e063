"""What a run tells those who follow it: its log, the progress bar, the pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crowdseg.config import StageConfig
from crowdseg.structures import Prediction, Sample

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StageInfo:
    """A stage about to begin or to go on."""

    name: str
    config: StageConfig
    steps: int
    steps_per_epoch: int
    start_step: int


@dataclass(frozen=True)
class StepInfo:
    """A step just done: ``step`` counts from 1 within the stage; ``logs`` are the loss parts, on the device."""

    stage: str
    step: int
    epoch: float
    lr: float
    images: int
    logs: dict[str, Tensor]


@dataclass(frozen=True)
class Validation:
    """The teacher on the validation images. ``score`` decides (smaller is better): MAE, or minus Mean IoU C."""

    stage: str
    epoch: int
    step: int
    mae: float
    rmse: float
    mean_iou_c: float | None  # against the prepared masks
    score: float
    best: bool
    examples: list[tuple[Sample, Prediction]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        names = ("stage", "epoch", "step", "mae", "rmse", "mean_iou_c")
        return {name: getattr(self, name) for name in names}


class Watcher:
    """Follows a run. Every hook may be left out."""

    def state(self) -> dict[str, Any]:
        """What a resumed run has to give back, of plain values and tensors."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...

    def stage_started(self, stage: StageInfo) -> None: ...
    def stepped(self, step: StepInfo) -> None: ...
    def validated(self, validation: Validation) -> None: ...
    def saved(self) -> None: ...
    def micro_batch_halved(self, stage: str, micro_batch: int) -> None: ...
