"""What ``masks export`` wrote and ``masks import`` took over."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from crowdseg.masks.export import MaskExport
from crowdseg.masks.importing import MaskImport
from crowdseg.report.console import err, out

_SHOWN = 20  # defects that are listed


def print_export(result: MaskExport) -> None:
    """The table on stdout, what was left out on stderr."""
    out.print(_table([("images", f"{result.images:,}"), ("masks", f"{result.people:,}"), ("file", str(result.out))]))
    _print_defects(result.failures)


def print_import(result: MaskImport) -> None:
    """The table on stdout, what was wrong with the source on stderr."""
    rows = [
        ("images", f"{result.images:,}"),
        ("people", f"{result.people:,}"),
        ("changed", f"{result.changed:,}"),
        ("masks", str(result.folder)),
    ]
    out.print(_table(rows))
    if number := result.empty:
        err.print(f"[yellow]No mask at all came for {number:,} image{'s' * (number > 1)}: nothing changed there.[/]")
    if result.bare:
        who = "1 person" if result.bare == 1 else f"{result.bare:,} people"
        err.print(f"[yellow]No mask came for {who}: the pixel of the point is all there is.[/]")
    _print_defects(result.defects)


def _table(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows:
        table.add_row(name, escape(value))
    return table


def _print_defects(defects: Sequence[str]) -> None:
    for defect in defects[:_SHOWN]:
        err.print(f"[red]failed[/] {escape(defect)}")
    if (more := len(defects) - _SHOWN) > 0:
        err.print(f"and {more:,} more")
