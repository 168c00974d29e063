"""``crowdseg masks export`` and ``crowdseg masks import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crowdseg.errors import PartialFailure


def register(group: typer.Typer) -> None:
    """Add the commands of this module."""
    group.command("export")(export)
    group.command("import")(import_)


def export(
    masks: Annotated[Path, typer.Argument(help="Folder of prepared masks.")],
    out: Annotated[Path, typer.Argument(help="A COCO file (NAME.json), or a folder for .npy label maps.")],
    data: Annotated[
        Path | None, typer.Option(help="The masks' dataset, where it has moved since.", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only train, val or test.", show_default=False)] = None,
) -> None:
    """Write prepared masks for another tool: one COCO file, or a label map per image."""
    from crowdseg.masks import export_masks
    from crowdseg.report.console import progress
    from crowdseg.report.masks_files import print_export

    with progress() as bar:
        task = bar.add_task("Export", total=None)
        result = export_masks(
            masks,
            out,
            data=data,
            split=split,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print_export(result)
    if number := len(result.failures):
        raise PartialFailure(f"{number} image{'s' * (number > 1)} left out: make the masks again with prep-masks.")


def import_(
    source: Annotated[Path, typer.Argument(help="A COCO file, or a folder of label maps (.npy, .png).")],
    data: Annotated[Path, typer.Argument(help="The dataset whose points the masks are of.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the masks. Default: runs/masks/<dataset>.", show_default=False)
    ] = None,
) -> None:
    """Take over masks corrected or drawn in another tool; images it does not speak of stay as they are."""
    from crowdseg.masks import import_masks
    from crowdseg.report.console import progress
    from crowdseg.report.masks_files import print_import

    with progress() as bar:
        task = bar.add_task("Import", total=None)
        result = import_masks(
            source, data, out, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    print_import(result)
    if number := len(result.defects):
        raise PartialFailure(
            f"{source} has {number} defect{'s' * (number > 1)}, listed above: the rest was taken over."
        )
