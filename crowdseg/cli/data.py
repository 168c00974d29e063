"""``crowdseg data check`` and ``crowdseg data synth``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from crowdseg.errors import PartialFailure, UsageError

_app = typer.Typer(no_args_is_help=True, help="Look at a dataset, or draw a synthetic one.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(_app, name="data")


@_app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A dataset, a part of one, or the folder that holds it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every defect.")] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image too, to find damaged ones.")] = False,
) -> None:
    """Say what a folder holds and what is wrong with it; exit 3 if something is broken."""
    import json

    from crowdseg.data import load_dataset
    from crowdseg.data.summary import damaged_images
    from crowdseg.report.console import err, progress
    from crowdseg.report.dataset import dataset_json, print_check

    with err.status(f"Reading {data}"):
        dataset = load_dataset(data)
    if decode:
        with progress() as bar:
            found = list(bar.track(damaged_images(dataset), len(dataset), description="Decoding"))
        dataset.defects += [defect for defect in found if defect is not None]
    if as_json:
        typer.echo(json.dumps(dataset_json(dataset), indent=2))
    else:
        print_check(dataset)
    if number := len(dataset.broken):
        raise PartialFailure(
            f"{dataset.root} has {number} defect{'s' * (number > 1)} that lose data: repair or remove what is listed."
        )


@_app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write; made if it is not there.")],
    images: Annotated[int, typer.Option(help="Number of images, training and test together.")] = 100,
    people: Annotated[str, typer.Option(metavar="LO-HI", help="Fewest and most people in an image.")] = "20-100",
    size: Annotated[str, typer.Option(metavar="HxW", help="Height and width in pixels.")] = "384x512",
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other scenes.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one per core.")] = 0,
) -> None:
    """Draw a synthetic crowd with known masks, in ShanghaiTech's layout."""
    import os

    from crowdseg.data import load_dataset
    from crowdseg.data.synthetic import write_synthetic
    from crowdseg.report.console import progress
    from crowdseg.report.dataset import print_check

    people_range = _pair(people, "-", "--people", "20-100")
    height_width = _pair(size, "x", "--size", "384x512")
    with progress() as bar:
        task = bar.add_task("Drawing", total=images)
        write_synthetic(
            out,
            images,
            people_range,
            height_width,
            seed,
            workers=workers or os.cpu_count() or 1,
            progress=lambda number: bar.advance(task, number),
        )
    print_check(load_dataset(out))


def _pair(text: str, separator: str, option: str, example: str) -> tuple[int, int]:
    """``20-100`` -> (20, 100); a single number stands for both."""
    match = re.fullmatch(rf"(\d+)(?:{separator}(\d+))?", text.strip().lower())
    if match is None:
        raise UsageError(f"{option} takes a form like {example}, not {text!r}.")
    return int(match[1]), int(match[2] or match[1])
