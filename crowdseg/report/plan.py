"""What ``train-seg`` and ``train-count`` say before they begin."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from crowdseg.engine.plan import StageTime, TrainingPlan
from crowdseg.presets import PUBLISHED, Published
from crowdseg.report.durations import duration

LONG = 12 * 3600.0  # seconds; on a CPU someone may have meant another preset

Times = dict[str, StageTime]


def print_plan(plan: TrainingPlan, console: Console, progress: Progress) -> None:
    """Data, network, published figure, stages and, from a short timing, the time; a resumed run is not timed."""
    console.print(_data(plan), highlight=False)
    console.print(_network(plan), highlight=False)
    if plan.config.preset in PUBLISHED:
        console.print(_published(plan.config.preset), highlight=False)
    times = None if plan.resumed else _timed(plan, progress)
    console.print(_stages(plan, times))
    console.print(_verdict(plan, times), highlight=False)


def _data(plan: TrainingPlan) -> str:
    data = plan.data
    return (
        f"[bold]{escape(str(data.dataset.root))}[/] ({data.dataset.format}): {len(data.labelled)} labelled and "
        f"{len(data.unlabelled)} unlabelled training images, {len(data.val)} for validation; "
        f"masks from {escape(str(data.masks.folder))}"
    )


def _network(plan: TrainingPlan) -> str:
    config = plan.config
    weights = f"weights of {plan.start}" if plan.start else f"backbone weights {config.backbone_weights}"
    processes = f", {plan.processes.world} processes" if plan.processes.world > 1 else ""
    return (
        f"{config.method}, preset {config.preset}: {escape(config.backbone)}, {plan.parameters / 1e6:.1f} million "
        f"weights, {escape(weights)}; batch {config.batch_size} of {config.crop} px on {plan.device}{processes}; "
        f"run folder [bold]{escape(str(plan.run))}[/]"
    )


def _published(preset: str) -> str:
    rows = PUBLISHED[preset]
    found = [f"{figures} ({row.of})" for row in rows if (figures := _figures(row))]
    where = f"{rows[0].dataset}, {rows[0].labels} % labels, VGG16-BN with ImageNet weights"
    return f"Published for {preset} ({where}): {'; '.join(found) or 'nothing that we know of'}"


def _figures(row: Published) -> str:
    named = {"MAE": row.mae, "RMSE": row.rmse, "Mean IoU C": row.mean_iou_c}
    return ", ".join(f"{name} {value:g}" for name, value in named.items() if value is not None)


def _timed(plan: TrainingPlan, progress: Progress) -> Times | None:
    task = progress.add_task("Timing a few steps", total=3 * len(plan.stages), figures="")
    try:
        return plan.estimate(lambda: progress.advance(task))
    finally:
        progress.remove_task(task)


def _stages(plan: TrainingPlan, times: Times | None) -> Table:
    table = Table(caption="a step: on labelled crops alone, then with unlabelled ones" if times else None)
    table.add_column("stage")
    for name in ("epochs", "steps", "a step", "validations", "time") if times else ("epochs", "steps", "validations"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in plan.stages:
        info, often = plan.stage(name), plan.validations(name)
        lengths = [name, str(info.config.epochs), f"{info.steps:,}"]
        if times:
            time = times[name]
            step = ", ".join(_seconds(value) for value in (time.labelled_step, time.full_step) if value is not None)
            table.add_row(*lengths, step, f"{often} of {_seconds(time.validation)}", duration(time.total))
        else:
            table.add_row(*lengths, str(often))
    return table


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"


def _verdict(plan: TrainingPlan, times: Times | None) -> str:
    if plan.resumed:
        return "The run goes on from its last saved step."
    if times is None:
        return "Estimated time: unknown, for the steps of the timing failed."
    total = sum(time.total for time in times.values())
    text = f"Estimated time: [bold]{duration(total)}[/], validation included"
    if plan.processes.world > 1:
        text += ", the exchange between processes not"
    if plan.device.type == "cpu" and total > LONG:
        text += (
            ". [yellow]That is long[/]: on a CPU the preset `demo` trains in minutes; docs/train.md, Without a GPU, "
            "has a command between the two"
        )
    return text + "."
