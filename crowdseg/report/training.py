"""Training as people follow it: a progress bar, a line per validation, loss curves and overlays in the run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from crowdseg import files
from crowdseg.data.images import read_image
from crowdseg.engine.plan import TrainingPlan
from crowdseg.engine.train import Announce, TrainResult
from crowdseg.engine.watcher import StageInfo, StepInfo, Validation, Watcher
from crowdseg.report import console
from crowdseg.report.curves import draw_curves
from crowdseg.report.overlay import draw_overlay
from crowdseg.report.plan import print_plan

REFRESH_SECONDS = 0.5


@contextmanager
def shown() -> Iterator[Announce]:
    """What ``announce`` takes: the plan is printed, then the run is followed on stderr and drawn in its folder."""
    with TrainingView() as view:

        def announce(plan: TrainingPlan) -> list[Watcher]:
            print_plan(plan, console.err, view.progress)
            return [view, RunPictures(plan.run)]

        yield announce


@contextmanager
def planned() -> Iterator[Announce]:
    """What ``announce`` takes where nothing will be trained: the plan is the result."""
    with console.progress() as progress:

        def announce(plan: TrainingPlan) -> list[Watcher]:
            print_plan(plan, console.out, progress)
            return []

        yield announce


class TrainingView(Watcher):
    """A live progress bar and a line per validation, on stderr. A context manager."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console.err,
            disable=not console.err.is_terminal,
        )
        self.task: TaskID | None = None
        self.shown, self.images = 0.0, 0

    def __enter__(self) -> TrainingView:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def stage_started(self, stage: StageInfo) -> None:
        if self.task is not None:
            self.progress.remove_task(self.task)
        self.task = self.progress.add_task(stage.name, total=stage.steps, completed=stage.start_step, figures="")
        self.shown, self.images = time.monotonic(), 0

    def stepped(self, step: StepInfo) -> None:
        self.images += step.images
        seconds = time.monotonic() - self.shown
        if self.task is None or self.progress.disable or seconds < REFRESH_SECONDS:
            return
        parts = "  ".join(f"{name} {float(value):.3f}" for name, value in step.logs.items() if name != "gradient_norm")
        figures = f"epoch {step.epoch:.1f}  {parts}  {self.images / seconds:.1f} images/s"
        self.progress.update(self.task, completed=step.step, figures=figures)
        self.shown, self.images = time.monotonic(), 0

    def validated(self, validation: Validation) -> None:
        quality = "" if validation.mean_iou_c is None else f"  mean IoU C {100 * validation.mean_iou_c:.1f}"
        console.err.print(
            f"{validation.stage} epoch {validation.epoch}: validation MAE {validation.mae:.2f}  "
            f"RMSE {validation.rmse:.2f}{quality}{'  [green]best so far[/]' if validation.best else ''}",
            highlight=False,
        )

    def micro_batch_halved(self, stage: str, micro_batch: int) -> None:
        console.err.print(
            f"{stage}: memory ran out; the batch is done again, and the run goes on, with micro_batch={micro_batch}",
            highlight=False,
        )


class RunPictures(Watcher):
    """Keeps ``curves.png`` and ``overlays/<stage>-<image>.jpg`` of a run up to date at every validation."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def validated(self, validation: Validation) -> None:
        draw_curves(self.run / "log.csv", self.run / "curves.png")
        for sample, prediction in validation.examples:
            picture = draw_overlay(read_image(sample.image), prediction.labels, prediction.points)
            name = sample.key.replace("/", "_")
            files.write_picture(self.run / "overlays" / f"{validation.stage}-{name}.jpg", picture)


def training_table(result: TrainResult) -> Table:
    """The best validation figures of each stage."""
    table = Table(title=f"Trained in {result.seconds:.0f} s", caption=f"Run folder: {escape(str(result.run))}")
    for name in ("stage", "best epoch", "val MAE", "val RMSE", "val mean IoU C"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in result.stages:
        quality = "" if stage["mean_iou_c"] is None else f"{100 * stage['mean_iou_c']:.1f}"
        table.add_row(stage["stage"], str(stage["epoch"]), f"{stage['mae']:.2f}", f"{stage['rmse']:.2f}", quality)
    return table
