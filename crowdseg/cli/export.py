"""``crowdseg export`` and ``crowdseg import-weights``: networks out to other runtimes, and in from the papers' code."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Format(str, Enum):
    """What a network can be written as."""

    onnx = "onnx"
    torchscript = "torchscript"


class Part(str, Enum):
    """The two networks in a checkpoint of the papers' code."""

    student = "student"
    teacher = "teacher"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("export")(export)
    app.command("import-weights")(import_weights)


def export(
    run: Annotated[
        Path | None, typer.Argument(help="A run's folder. Default: the newest one under ./runs.", show_default=False)
    ] = None,
    format: Annotated[Format, typer.Option(help="What to write.")] = Format.onnx,
    out: Annotated[
        Path | None, typer.Option(help="The file. Default: runs/export/NAME/model.onnx (.pt).", show_default=False)
    ] = None,
    card: Annotated[
        bool, typer.Option(help="Write README.md beside it: what the network is, its data and scores.")
    ] = True,
) -> None:
    """Write a run's network as one file that runs without crowdseg, checked against PyTorch, with a model card."""
    from crowdseg.engine import export_model, load
    from crowdseg.engine.export import default_path
    from crowdseg.report import model_card
    from crowdseg.report.console import progress
    from crowdseg.report.export import print_export

    model = load(run, "cpu")
    path = out or default_path(model, format.value)
    if card:
        model_card.check_place(path.parent)
    with progress() as bar:
        task = bar.add_task("Export and check", total=None)
        result = export_model(
            model, format.value, path, tick=lambda done, total: bar.update(task, completed=done, total=total)
        )
    print_export(result, model_card.write_card(model, result) if card else None)


def import_weights(
    file: Annotated[Path, typer.Argument(help="Checkpoint of the P2R or XMask code (.pth).", show_default=False)],
    weights: Annotated[Part, typer.Option(help="Which of its two networks.")] = Part.student,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder. Default: runs/seg/FOLDER-FILE (P2R: runs/count/...).", show_default=False),
    ] = None,
) -> None:
    """Make a run of weights that the code of the papers P2R or XMask has trained."""
    from crowdseg.engine import import_weights as import_weights_
    from crowdseg.report.console import progress
    from crowdseg.report.export import print_import

    with progress() as bar:
        bar.add_task("Import", total=None)
        result = import_weights_(file, part=weights.value, out=out)
    print_import(result)
