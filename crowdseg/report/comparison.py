"""Showing how two evaluations differ: the table and the files."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crowdseg import files
from crowdseg.engine.comparison import ScoreComparison
from crowdseg.engine.figures import LOWER_IS_BETTER, NEITHER_IS_BETTER
from crowdseg.metrics.resampling import LEVEL, Difference
from crowdseg.report.evaluation import NOT_DEFINED, change, figure, image_row, interval, title_of

FEW = 6  # with fewer images no swap of results can give a p of 0.05


def table(result: ScoreComparison) -> RenderableType:
    """Both figures, their difference, its interval and p; the better figure is bold."""
    first, second = result.first, result.second
    images = first.counting.images
    title = f"A {first.name} and B {second.name} on {first.data.name or first.data} · {first.split} · {images} images"
    grid = Table(title=escape(title), title_justify="left", title_style="bold", pad_edge=False)
    grid.add_column(style="cyan", no_wrap=True)
    for head in ("A", "B", "B - A", f"{LEVEL:.0%} interval", "p"):
        grid.add_column(head, justify="right", no_wrap=True)
    for name, difference in result.figures.items():
        grid.add_row(title_of(name), *_texts(name, difference))
    a, b, neither = result.closer
    told = f"The count of A is closer on {a} images, that of B on {b}, neither on {neither}."
    notes = [told, *([_FEW] if images < FEW and first.resamples else []), *result.notes]
    return Group(grid, *(Text(f"• {note}", style="dim") for note in notes))


_FEW = f"With fewer than {FEW} images p cannot fall below 0.05, however different the two are."


def _texts(name: str, found: Difference) -> list[str]:
    better = _better(name, found.difference)
    both = [f"[bold]{text}[/]" if better == side else text for side, text in _figures(name, found)]
    p = NOT_DEFINED if found.p is None else "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"
    sure = NOT_DEFINED if found.interval is None else interval(name, found.interval, change)
    return [*both, change(name, found.difference), sure, p]


def _figures(name: str, found: Difference) -> list[tuple[str, str]]:
    return [("A", figure(name, found.first)), ("B", figure(name, found.second))]


def _better(name: str, difference: float | None) -> str | None:
    """The side with the better figure, "A" or "B"."""
    if not difference or name in NEITHER_IS_BETTER:
        return None
    return "B" if (difference < 0) == (name in LOWER_IS_BETTER) else "A"


def document(result: ScoreComparison) -> dict[str, Any]:
    """The comparison as JSON: shares in [0, 1], null where a value is not defined."""
    first, second = result.first, result.second
    return {
        "first": {"name": first.name, "source": str(first.source)},
        "second": {"name": second.name, "source": str(second.source)},
        "data": str(first.data),
        "format": first.format,
        "split": first.split,
        "images": first.counting.images,
        "mask_truth": first.mask_truth,
        "min_score": first.min_score,
        "level": LEVEL,
        "resamples": first.resamples,
        "seed": first.seed,
        "figures": {
            name: asdict(difference) | {"better": _better(name, difference.difference)}
            for name, difference in result.figures.items()
        },
        "closer": dict(zip(("first", "second", "neither"), result.closer, strict=True)),
        "notes": result.notes,
    }


def write(result: ScoreComparison, folder: Path) -> list[Path]:
    """``comparison.json`` and ``per_image.csv`` (the columns of both, with ``a_`` and ``b_``); returns their paths."""
    paths = [folder / "comparison.json", folder / "per_image.csv"]
    files.write_json(paths[0], document(result))
    rows = [_row(*map(image_row, pair)) for pair in zip(result.first.images, result.second.images, strict=True)]
    with files.atomic(paths[1]) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return paths


def _row(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    sides = {f"{side}_{name}": row[name] for side, row in (("a", first), ("b", second)) for name in list(row)[2:]}
    return {"image": first["image"], "true": first["true"]} | sides
