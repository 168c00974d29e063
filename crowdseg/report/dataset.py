"""What was recognised in a data folder: a table, a line, JSON, and the defects with their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crowdseg.data import Dataset, Defect
from crowdseg.data.summary import SplitSummary, summarise
from crowdseg.report import console

_SHOWN = 20  # defects of a kind that are listed


def dataset_table(dataset: Dataset) -> Table:
    """A row per split: images, points, and the spread of points per image."""
    summaries = summarise(dataset)
    optional = {
        "without annotation": [each.images - each.annotated for each in summaries],
        "with masks": [each.masked for each in summaries],
    }
    extra = {name: values for name, values in optional.items() if any(values)}
    table = Table("split", title_justify="left", header_style="bold")
    for name in ("images", *extra, "points", "fewest", "median", "most"):
        table.add_column(name, justify="right")
    for row, each in enumerate(summaries):
        numbers = [each.images, *(values[row] for values in extra.values()), each.points]
        spread = [each.lowest, each.median, each.highest]
        table.add_row(each.split, *map(_number, numbers), *map(_number, spread))
    return table


def print_check(dataset: Dataset) -> None:
    """The whole report on stdout: format and folder, the table, every kind of defect."""
    out = console.out
    out.print(f"[bold]{escape(dataset.format)}[/] in {escape(str(dataset.root))}", highlight=False)
    out.print(dataset_table(dataset))
    warnings = [defect for defect in dataset.defects if not defect.broken]
    _print_defects(out, dataset, dataset.broken, "[red]broken[/]")
    _print_defects(out, dataset, warnings, "[yellow]to note[/]")
    if not dataset.defects:
        out.print("[green]No defects.[/]")


def print_dataset(dataset: Dataset) -> None:
    """What was recognised, short, on stderr: for the commands that go on to work with it."""
    lines = [f"[bold]{escape(dataset.format)}[/] in {escape(str(dataset.root))}"]
    lines += [f"  {_line(summary)}" for summary in summarise(dataset)]
    if dataset.defects:
        broken, number = len(dataset.broken), len(dataset.defects)
        colour, of_which = ("yellow", f", {broken} of them broken") if broken else ("dim", "")
        hint = f"`crowdseg data check {escape(str(dataset.root))}` lists them"
        lines.append(f"  [{colour}]{number} {_plural('defect', number)}{of_which}: {hint}[/]")
    console.err.print("\n".join(lines), highlight=False)


def print_broken(dataset: Dataset) -> None:
    """What loses data, on stderr: for the commands that leave it out."""
    _print_defects(console.err, dataset, dataset.broken, "[red]broken[/]")


def dataset_json(dataset: Dataset) -> dict[str, Any]:
    """Everything the check says, all defects included, as JSON values."""
    return {
        "root": str(dataset.root),
        "format": dataset.format,
        "fingerprint": dataset.fingerprint(),
        "splits": [asdict(summary) for summary in summarise(dataset)],
        "defects": [{**asdict(defect), "file": str(defect.file)} for defect in dataset.defects],
    }


def _line(summary: SplitSummary) -> str:
    text = f"{summary.split}: {summary.images:,} {_plural('image', summary.images)}"
    if summary.annotated < summary.images:
        text += f", {summary.images - summary.annotated:,} without annotation"
    if summary.annotated:
        spread = f"{summary.lowest:,} to {summary.highest:,} per image, median {summary.median:,g}"
        text += f", {summary.points:,} {_plural('point', summary.points)} ({spread})"
    return text + (f", {summary.masked:,} with masks" if summary.masked else "")


def _print_defects(out: Console, dataset: Dataset, defects: Sequence[Defect], title: str) -> None:
    if not defects:
        return
    out.print(f"\n{title} ({len(defects):,})", highlight=False)
    for defect in defects[:_SHOWN]:
        out.print(f"  {escape(_defect_text(dataset, defect))}", highlight=False)
    if len(defects) > _SHOWN:
        out.print(f"  ... and {len(defects) - _SHOWN:,} more; --json lists all", highlight=False)


def _defect_text(dataset: Dataset, defect: Defect) -> str:
    root = f"{dataset.root}/"
    file, message = str(defect.file).removeprefix(root), defect.message.replace(root, "")
    return message if file in message else f"{file}: {message}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def _plural(word: str, number: int) -> str:
    return word if number == 1 else word + "s"
