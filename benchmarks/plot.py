"""Time against the number of points, all contenders: ``python -m benchmarks.plot benchmarks/results/FILE.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.common import ROOT

PICTURE = ROOT / "docs" / "images" / "kernels.png"
COLOURS = {
    "native": "#d1495b",
    "torch": "#2e6f9e",
    "torch.compile": "#66a5ad",
    "dense": "#8d8d8d",
    "pass per point": "#c9a227",
    "cKDTree": "#5b8c5a",
}


class Panel(NamedTuple):
    """One operator at one size."""

    benchmark: str
    title: str
    size: list[int]


PANELS = [
    Panel("pull_push", "Pull/push loss, forward + backward, 256 × 256", [256, 256]),
    Panel("radii", "Exclusion radii, 4096 × 4096", [4096, 4096]),
    Panel("energy", "Energy labels, 768 × 1024", [768, 1024]),
]


def draw(file: Path, picture: Path = PICTURE) -> Path:
    """Draws the panels from a saved run: uniform points, one image; hollow where extrapolated."""
    document = json.loads(file.read_text())
    figure, axes = plt.subplots(1, len(PANELS), figsize=(15, 4.6), layout="constrained")
    for panel, ax in zip(PANELS, axes, strict=True):
        _draw_panel(ax, panel, document["benchmarks"][panel.benchmark])
    where = document["machine"]
    figure.supxlabel(f"{where['device']}, torch {where['torch']}; hollow: extrapolated", fontsize=9, color="#666666")
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    return picture


def _draw_panel(ax: Axes, panel: Panel, rows: list[dict[str, Any]]) -> None:
    key = "gpu_ms" if "gpu_ms" in rows[0] else "cpu_ms"
    for name, colour in COLOURS.items():
        own = [row for row in rows if row["contender"] == name and row["layout"] == "uniform" and row[key]]
        own = [row for row in own if row["size"] == panel.size and row["batch"] == 1]
        if not own:
            continue
        counts, times = [row["points"] for row in own], [row[key] for row in own]
        ax.plot(counts, times, color=colour, label=name, lw=2.5 if name == "native" else 1.5)
        faces = ["white" if row["extrapolated"] else colour for row in own]
        ax.scatter(counts, times, c=faces, edgecolors=colour, zorder=3)
    ax.set(xscale="log", yscale="log", title=panel.title, xlabel="points")
    ax.set_ylabel("ms on the GPU" if key == "gpu_ms" else "ms, one thread")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=9)


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
