"""Training as people follow it: a progress bar, a line per validation, loss curves and overlays in the run folder."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

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
from crowdseg.config import TrainConfig
from crowdseg.data.images import read_image
from crowdseg.engine.logs import Row, read_log
from crowdseg.engine.train import Announce, TrainResult
from crowdseg.engine.training_data import TrainingData
from crowdseg.engine.watcher import StageInfo, StepInfo, Validation, Watcher
from crowdseg.methods import method_class
from crowdseg.methods.base import Task
from crowdseg.report import console
from crowdseg.report.overlay import draw_overlay

REFRESH_SECONDS = 0.5
QUALITY = "val_mean_iou_c"


def print_plan(run: Path, config: TrainConfig, data: TrainingData, stages: list[str]) -> None:
    """What will be trained on what, in a few lines on stderr."""
    epochs = " + ".join(f"{stage} {getattr(config, stage).epochs}" for stage in stages)
    console.err.print(
        f"[bold]{escape(str(data.dataset.root))}[/] ({data.dataset.format}): {len(data.labelled)} labelled and "
        f"{len(data.unlabelled)} unlabelled training images, {len(data.val)} for validation; "
        f"masks from {escape(str(data.masks.folder))}"
    )
    console.err.print(
        f"{config.method}, preset {config.preset}, backbone {config.backbone}, batch {config.batch_size}, "
        f"epochs {epochs}; run folder [bold]{escape(str(run))}[/]",
        highlight=False,
    )


@contextmanager
def shown(task: Task) -> Iterator[Announce]:
    """What ``announce`` takes: the plan is printed, then the run is followed on stderr and drawn in its folder."""
    with TrainingView() as view:

        def announce(run: Path, config: TrainConfig, data: TrainingData) -> list[Watcher]:
            print_plan(run, config, data, list(method_class(config.method).stages[task]))
            return [view, RunPictures(run)]

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


def draw_curves(log: Path, file: Path) -> None:
    """Loss parts and validation figures of every stage, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_log(log)
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    figure = Figure(figsize=(5 * max(len(stages), 1), 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, max(len(stages), 1), squeeze=False)
    for column, stage in enumerate(stages):
        curves = _curves(row for row in rows if row["stage"] == stage)
        losses = {n: c for n, c in curves.items() if not n.startswith("val_") and n not in ("lr", "gradient_norm")}
        _panel(panels[0, column], losses, f"{stage}: losses")
        errors = {n: c for n, c in curves.items() if n.startswith("val_") and n != QUALITY}
        _panel(panels[1, column], errors, f"{stage}: validation")
        if QUALITY in curves:  # a share beside errors in people: on an axis of its own
            _panel(panels[1, column].twinx(), {QUALITY: curves[QUALITY]}, "", color="tab:green", loc="lower right")
        panels[0, column].set_yscale("symlog", linthresh=1e-3)
        panels[1, column].set_xlabel("epoch")
    with files.atomic(file) as temporary:
        figure.savefig(temporary, dpi=110)


Curve = list[tuple[float, float]]


def _curves(rows: Any) -> dict[str, Curve]:
    curves: dict[str, Curve] = defaultdict(list)
    row: Row
    for row in rows:
        curves[row["name"]].append((float(row["epoch"]), float(row["value"])))
    return curves


def _panel(axes: Any, curves: dict[str, Curve], title: str, loc: str = "best", **style: str) -> None:
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), label=name, marker="." if len(curve) < 30 else None, **style)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize=8, loc=loc)


def training_table(result: TrainResult) -> Table:
    """The best validation figures of each stage."""
    table = Table(title=f"Trained in {result.seconds:.0f} s", caption=f"Run folder: {escape(str(result.run))}")
    for name in ("stage", "best epoch", "val MAE", "val RMSE", "val mean IoU C"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in result.stages:
        quality = "" if stage["mean_iou_c"] is None else f"{100 * stage['mean_iou_c']:.1f}"
        table.add_row(stage["stage"], str(stage["epoch"]), f"{stage['mae']:.2f}", f"{stage['rmse']:.2f}", quality)
    return table
