"""``crowdseg prep-masks``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crowdseg.errors import PartialFailure

if TYPE_CHECKING:
    from rich.progress import TaskID


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("prep-masks")(prep_masks)


def prep_masks(
    data: Annotated[Path, typer.Argument(help="Dataset as downloaded; nothing is written into it.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the masks. Default: runs/masks/<dataset>.")] = None,
    segmenter: Annotated[
        str, typer.Option(help="auto, superpixel or sam; auto takes sam given a checkpoint or a model.")
    ] = "auto",
    sam_checkpoint: Annotated[
        Path | None,
        typer.Option(help="Weights of segment-anything (.pth), or a folder of transformers. Default: downloaded once."),
    ] = None,
    sam_model: Annotated[
        str | None, typer.Option(help="vit_b, vit_l or vit_h, of which the weights are. Default: vit_b.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only train, val or test.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one per core, fewer for few images.")] = 0,
    preview: Annotated[int, typer.Option(min=0, help="Number of images on contact sheets.")] = 0,
) -> None:
    """Turn points into instance masks. Run again, it goes on where it stopped."""
    from crowdseg.data import load_dataset
    from crowdseg.masks import prep_masks as prepare
    from crowdseg.report.console import err, progress
    from crowdseg.report.dataset import print_broken, print_dataset
    from crowdseg.report.masks import print_masks

    with err.status(f"Reading {data}"):
        dataset = load_dataset(data)
    print_dataset(dataset)
    with progress() as bar:
        task = bar.add_task("Masks", total=None)
        further: dict[str, TaskID] = {}  # shown when there is something to show

        def show(name: str, done: int, total: int) -> None:
            if name not in further:
                further[name] = bar.add_task(name)
            bar.update(further[name], completed=done, total=total)

        result = prepare(
            dataset,
            out,
            segmenter=segmenter,
            sam_checkpoint=sam_checkpoint,
            sam_model=sam_model,
            split=split,
            workers=workers or None,
            preview=preview,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            download=lambda file, done, total: show(f"Downloading {file}, MB", done // 10**6, total // 10**6),
            drawing=lambda done, total: show("Previews", done, total),
        )
    print_masks(result)
    print_broken(dataset)
    problems = []
    if number := len(result.failures):
        problems.append(f"{number} of {result.images} images failed")
    if number := len(dataset.broken):
        problems.append(f"{number} defect{'s' * (number > 1)} of the dataset lose{'s' * (number == 1)} data")
    if problems:
        raise PartialFailure(f"{' and '.join(problems)}, all else is kept: repair or remove what is listed.")
