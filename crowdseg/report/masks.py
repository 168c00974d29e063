"""The summary of mask preparation."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from crowdseg.masks.batch import PrepResult
from crowdseg.report.console import err, out

_SHOWN = 20  # failures that are listed


def print_masks(result: PrepResult) -> None:
    """The table on stdout; what should be noticed on stderr."""
    out.print(_table(result))
    for image, problem in result.failures[:_SHOWN]:
        err.print(f"[red]failed[/] {escape(problem if str(image) in problem else f'{image}: {problem}')}")
    if result.redone:
        err.print(f"[yellow]{result.redone:,} of them anew, since the settings or points had changed.[/]")
    if result.segmenter == "superpixel":
        err.print(
            "[dim]Masks were grown from colours and superpixels, as no SAM weights were given (--sam-checkpoint).[/]"
        )


def _table(result: PrepResult) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    kept = f" ({result.kept:,} from an earlier run)" if result.kept else ""
    table.add_row("images", f"{result.done + result.kept:,}{kept}")
    table.add_row("people", f"{result.people:,}")
    table.add_row("masks by", ", ".join(f"{source} {number:,}" for source, number in result.sources.items()) or "-")
    table.add_row("median area", f"{result.median_area:,.0f} px")
    if "sam" in result.sources:
        table.add_row("leakage", f"{result.mean_leakage:.1%}")
    table.add_row("time", f"{result.seconds:,.1f} s")
    table.add_row("masks", escape(str(result.folder)))
    if result.previews:
        table.add_row("previews", escape(str(result.previews[0].parent)))
    return table
