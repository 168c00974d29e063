"""``crowdseg masks report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crowdseg.errors import PartialFailure


def register(group: typer.Typer) -> None:
    """Add the commands of this module."""
    group.command()(report)


def report(
    masks: Annotated[Path, typer.Argument(help="Folder of prepared masks.")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write. Default: MASKS/report.html.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The masks' dataset, where it has moved since.", show_default=False)
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="People shown; of more, the most doubtful.")] = 400,
) -> None:
    """Write one HTML page to look through masks in a browser, the most doubtful first."""
    from crowdseg.masks import review_masks
    from crowdseg.report.console import progress
    from crowdseg.report.masks import print_masks_page
    from crowdseg.report.masks_page import write_masks_page

    with progress() as bar:
        reading = bar.add_task("Records", total=None)
        review = review_masks(
            masks, data, most=most, progress=lambda done, total: bar.update(reading, completed=done, total=total)
        )
        drawing = bar.add_task("Crops", total=None)
        page = write_masks_page(
            out or masks / "report.html",
            review,
            progress=lambda done, total: bar.update(drawing, completed=done, total=total),
        )
    print_masks_page(review, page)
    if number := len(review.failures) + len(page.failures):
        raise PartialFailure(f"{number} file{'s' * (number > 1)} could not be read: the others are on the page.")
