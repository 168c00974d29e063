"""What every way to train reaches, a dot a seed: ``python -m benchmarks.accuracy_plot FILE.json``."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.common import ROOT, Row

PICTURE = ROOT / "docs" / "images" / "accuracy.png"
MAIN, OTHER = "#d1495b", "#2e6f9e"
PANELS = {
    "MAE": "MAE (smaller is better)",
    "F1": "Localisation F1 within 8 px, %",
    "gain": "Mean IoU C above circles, points",
}


def draw(file: Path, picture: Path = PICTURE) -> Path:
    """Draws a row of panels for each dataset of a saved run of the benchmark ``accuracy``."""
    document = json.loads(file.read_text())
    studies = [list(rows) for _, rows in groupby(document["benchmarks"]["accuracy"], lambda row: row["data"])]
    heights = [len(rows) + 2 for rows in studies]
    figure, axes = plt.subplots(
        len(studies),
        len(PANELS),
        figsize=(14, 0.3 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for rows, line in zip(studies, axes, strict=True):
        for (name, title), ax in zip(PANELS.items(), line, strict=True):
            _draw_panel(ax, rows, name)
            ax.set_title(title, fontsize=10)
        seeds = f"{rows[0]['seeds']} seeds" if rows[0]["seeds"] > 1 else "one seed"
        line[0].set_title(f"{rows[0]['data']}, {seeds}. {PANELS['MAE']}", fontsize=10)
        line[0].set_yticks(range(len(rows)), [row["variant"] for row in rows], fontsize=9)
    figure.savefig(picture, dpi=100)
    plt.close(figure)
    return picture


def _draw_panel(ax: Axes, rows: list[Row], name: str) -> None:
    for place, row in enumerate(rows):
        values = _values(row, name)
        colour = MAIN if row["variant"] == "XMask" else OTHER
        ax.scatter(values, [place] * len(values), color=colour, s=14, alpha=0.5, lw=0)
        ax.scatter([mean(values)], [place], color=colour, marker="|", s=120, lw=2.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(*_limits([value for row in rows for value in _values(row, name)]))
    ax.set_yticks([])
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _limits(values: list[float]) -> tuple[float, float]:
    """Around all values, and never so narrow that small differences look large."""
    middle, span = (min(values) + max(values)) / 2, max(values) - min(values)
    half = 0.55 * max(span, 0.25 * abs(middle))
    return middle - half, middle + half


def _values(row: Row, name: str) -> list[Any]:
    if name != "gain":
        return row[name]
    return [drawn - circles for drawn, circles in zip(row["mean IoU C"], row["circles"], strict=True)]


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
