"""The summaries of mask preparation and of the page of masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from crowdseg.report.console import err, out

if TYPE_CHECKING:  # a summary needs no drawing
    from crowdseg.masks.batch import PrepResult
    from crowdseg.masks.review import MaskReview
    from crowdseg.report.masks_page import MasksPage

_SHOWN = 20  # failures that are listed


def print_masks(result: PrepResult) -> None:
    """The table on stdout; what should be noticed on stderr."""
    out.print(_table(result))
    _print_failures(result.failures)
    for problem in result.damaged[:_SHOWN]:
        err.print(f"[yellow]damaged[/] {escape(problem)}")
    if result.redone:
        err.print(f"[yellow]{result.redone:,} of them anew, since settings, points or files had changed.[/]")
    if result.segmenter == "superpixel":
        err.print(
            "[dim]Masks were grown from colours and superpixels, as no SAM weights were given (--sam-checkpoint).[/]"
        )


def print_masks_page(review: MaskReview, page: MasksPage) -> None:
    """The table on stdout; what is not on the page on stderr."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("people", f"{review.people:,} in {review.images:,} images")
    table.add_row("masks by", _by_source(review.sources))
    table.add_row("shown", f"{page.shown:,}")
    table.add_row("page", f"{escape(str(page.path))} ({page.path.stat().st_size / 1e6:.1f} MB)")
    out.print(table)
    _print_failures([*review.failures, *page.failures])


def _print_failures(failures: list[tuple[Path, str]]) -> None:
    for file, problem in failures[:_SHOWN]:
        err.print(f"[red]failed[/] {escape(problem if str(file) in problem else f'{file}: {problem}')}")


def _by_source(sources: dict[str, int]) -> str:
    return ", ".join(f"{source} {number:,}" for source, number in sources.items()) or "-"


def _table(result: PrepResult) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    kept = f" ({result.kept:,} from an earlier run)" if result.kept else ""
    table.add_row("images", f"{result.done + result.kept:,}{kept}")
    table.add_row("people", f"{result.people:,}")
    table.add_row("masks by", _by_source(result.sources))
    table.add_row("median area", f"{result.median_area:,.0f} px")
    if "sam" in result.sources:
        table.add_row("leakage", f"{result.mean_leakage:.1%}")
    table.add_row("time", f"{result.seconds:,.1f} s")
    table.add_row("masks", escape(str(result.folder)))
    if result.previews:
        table.add_row("previews", escape(str(result.previews[0].parent)))
    return table
