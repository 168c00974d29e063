"""``crowdseg train-seg`` and ``crowdseg train-count``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from crowdseg.config import TrainConfig
    from crowdseg.methods.base import Task

Data = Annotated[
    Path | None,
    typer.Argument(
        help="Dataset as downloaded. Default: that of the last prep-masks in this folder.", show_default=False
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Run whose weights to begin with; its settings and dataset unless named. Default: none.",
    ),
]
Masks = Annotated[Path | None, typer.Option(help="The dataset's prep-masks folder, where it is not the default one.")]
Out = Annotated[Path | None, typer.Option(help="Run folder. Default: a new one under ./runs.")]
Preset = Annotated[str | None, typer.Option(help="sha-5, sha-10, sha-40, qnrf-*, jhu-* or demo. Default: sha-10.")]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings, such as a run's config.yaml.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="One setting as key=value, e.g. pretrain.lr=1e-4.")]
Ratio = Annotated[float | None, typer.Option(help="Labelled share of the training images, e.g. 0.1.")]
Protocol = Annotated[Path | None, typer.Option(help="File that names the labelled images, instead of --ratio.")]
Seed = Annotated[int | None, typer.Option(help="Decides splits, weights and crops.")]
Backbone = Annotated[str | None, typer.Option(help="vgg16_bn, mobilenet_v2, ... (torchvision) or tiny.")]
Weights = Annotated[str | None, typer.Option(help="Backbone weights: a file, `imagenet` (downloads) or `none`.")]
Workers = Annotated[int | None, typer.Option(help="Processes that prepare the crops.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Amp = Annotated[bool, typer.Option("--amp", help="Compute in bfloat16 where that is safe.")]
AutoBatch = Annotated[
    bool, typer.Option("--auto-batch", help="Where memory runs out, halve the micro-batch and go on.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done and how long it would take; do not train.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run --out, or the newest unfinished one.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("train-seg")(train_seg)
    app.command("train-count")(train_count)


def train_seg(
    data: Data = None,
    from_run: From = None,
    ratio: Ratio = None,
    protocol: Protocol = None,
    preset: Preset = None,
    backbone: Backbone = None,
    backbone_weights: Weights = None,
    seed: Seed = None,
    masks: Masks = None,
    out: Out = None,
    config: Config = None,
    set_: Set = None,
    workers: Workers = None,
    device: Device = "auto",
    amp: Amp = False,
    auto_batch: AutoBatch = False,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Train to count, then to segment (stages 1 and 2), from a part of the labels."""
    values = {
        "ratio": ratio,
        "protocol": None if protocol is None else str(protocol),
        "backbone": backbone,
        "backbone_weights": backbone_weights,
        "seed": seed,
        "workers": workers,
        "amp": amp or None,
    }
    if from_run is not None and preset is None and config is None and not resume:
        config = _settings_of(from_run)
    settings = _settings(preset, config, set_, values, resume)
    options = {"data": data, "masks": masks, "out": out, "config": settings, "device": device, "resume": resume}
    options["auto_batch"] = auto_batch
    _run("seg", {**options, "from_run": from_run}, dry_run)


def train_count(
    data: Data = None,
    from_run: Annotated[Path | None, typer.Option("--from", help="Run of train-seg. Default: the newest.")] = None,
    masks: Masks = None,
    out: Out = None,
    set_: Set = None,
    workers: Workers = None,
    device: Device = "auto",
    amp: Amp = False,
    auto_batch: AutoBatch = False,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Train counting under the masks' constraint (stage 3), from a run of train-seg and with its settings."""
    file = None if resume else _settings_of(from_run)
    settings = _settings(None, file, set_, {"workers": workers, "amp": amp or None}, resume)
    options = {"data": data, "masks": masks, "out": out, "config": settings, "device": device, "resume": resume}
    options["auto_batch"] = auto_batch
    _run("count", {**options, "from_run": from_run}, dry_run)


def _settings_of(run: Path | None) -> Path:
    """The settings of the run to begin from; None for the newest of train-seg."""
    from crowdseg.engine.checkpoint import find_run

    return find_run(run, "seg").folder / "config.yaml"


def _settings(
    preset: str | None, file: Path | None, overrides: list[str] | None, values: dict[str, Any], resume: bool
) -> TrainConfig | None:
    """The settings asked for; None for a resumed run, which keeps its own."""
    from crowdseg.config import make_config
    from crowdseg.errors import UsageError

    given = [preset, file, *(overrides or []), *values.values()]
    if resume:
        if any(value is not None for value in given):
            raise UsageError(
                "A resumed run keeps its own settings: pass --resume with --out, --device and --auto-batch only."
            )
        return None
    if preset is not None and file is not None:
        raise UsageError("Pass --preset or --config, not both.")
    return make_config(preset or "sha-10", file, overrides, **values)


def _run(task: Task, options: dict[str, Any], dry_run: bool) -> None:
    from crowdseg import engine
    from crowdseg.report import console
    from crowdseg.report.training import planned, shown, training_table

    train = engine.train_seg if task == "seg" else engine.train_count
    with planned() if dry_run else shown() as announce:
        result = train(announce=announce, dry_run=dry_run, **options)
    if not dry_run and os.environ.get("RANK", "0") == "0":  # under torchrun one process speaks for all
        console.out.print(training_table(result))
