"""What ``crowdseg export`` wrote and ``crowdseg import-weights`` took over."""

from __future__ import annotations

from pathlib import Path

from crowdseg.engine.export import TOLERANCE, ExportResult
from crowdseg.engine.published import ImportedRun
from crowdseg.report.console import err, out


def print_export(result: ExportResult, card: Path | None) -> None:
    """The files on stdout, how well they agree with PyTorch too."""
    sizes = ", ".join(f"{number} of {height} × {width}" for number, height, width in result.sizes)
    rows = {
        "file": str(result.path),
        "outputs": ", ".join(result.outputs),
        "differs from PyTorch": f"by at most {result.difference:.0e} (accepted {TOLERANCE:g}), on images {sizes}",
    }
    _print(rows | ({"card": str(card)} if card else {}))


def print_import(result: ImportedRun) -> None:
    """The run on stdout, what it lacks on stderr."""
    _print({"run": str(result.run), "from": f"{result.part} of {result.file}"})
    if not result.masks:
        err.print("[yellow]These weights have no mask head: they count and locate people, and draw no masks.[/]")


def _print(rows: dict[str, str]) -> None:
    """A line each, however long: a table would break paths."""
    width = max(map(len, rows))
    for name, value in rows.items():
        out.print(f"{name:<{width}}  {value}", markup=False, highlight=False)
