"""Figures of a run as ``log.csv`` (stage, epoch, step, name, value) and for TensorBoard."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdseg import files
from crowdseg.engine.watcher import StageInfo, StepInfo, Validation, Watcher
from crowdseg.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("stage", "epoch", "step", "name", "value")
Row = dict[str, str]


class RunLog(Watcher):
    """Writes the mean of every loss part per epoch, and every validation."""

    def __init__(self, run: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.file = run / "log.csv"
        self.board = SummaryWriter(str(run / "tensorboard"))
        self.sums: dict[str, list[Tensor | float]] = defaultdict(list)
        self.per_epoch = 1

    def state(self) -> dict[str, Any]:
        """The values of the epoch so far."""
        return {name: [float(value) for value in values] for name, values in self.sums.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.sums = defaultdict(list, state)

    def stage_started(self, stage: StageInfo) -> None:
        """Rows behind the point where a resumed run goes on are dropped: they will be written again."""
        self.per_epoch = stage.steps_per_epoch
        rows = [
            row for row in read_log(self.file) if row["stage"] != stage.name or int(row["step"]) <= stage.start_step
        ]
        with files.atomic(self.file) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def stepped(self, step: StepInfo) -> None:
        for name, value in step.logs.items():
            self.sums[name].append(value)
        if step.step % self.per_epoch == 0:
            means = {name: sum(float(v) for v in values) / len(values) for name, values in self.sums.items()}
            self._write(step.stage, round(step.epoch), step.step, {**means, "lr": step.lr})
            self.sums.clear()

    def validated(self, validation: Validation) -> None:
        values = {"val_mae": validation.mae, "val_rmse": validation.rmse, "val_mean_iou_c": validation.mean_iou_c}
        known = {name: value for name, value in values.items() if value is not None}
        self._write(validation.stage, validation.epoch, validation.step, known)

    def saved(self) -> None:
        self.board.flush()

    def _write(self, stage: str, epoch: int, step: int, values: dict[str, float]) -> None:
        with self.file.open("a", newline="") as stream:
            csv.writer(stream).writerows([stage, epoch, step, name, f"{v:.6g}"] for name, v in values.items())
        for name, value in values.items():
            self.board.add_scalar(f"{stage}/{name}", value, step)


def read_log(file: Path) -> list[Row]:
    """Rows of a ``log.csv``; none where there is no file yet, nor one that a power cut left half written.

    Raises:
        DataError: the file is not text of that kind.
    """
    if not file.is_file():
        return []
    try:
        with file.open(newline="") as stream:
            return [row for row in csv.DictReader(stream) if all(row.get(name) for name in COLUMNS)]
    except (csv.Error, ValueError) as error:
        raise DataError(f"{file} is damaged ({error}). Restore or delete it.") from error
