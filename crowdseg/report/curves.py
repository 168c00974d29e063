"""Curves of training runs, from their ``log.csv``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from crowdseg import files
from crowdseg.engine.logs import Row, read_log

QUALITY = "val_mean_iou_c"
Curve = list[tuple[float, float]]  # (epoch, value)


def draw_curves(log: Path, file: Path) -> None:
    """Loss parts and validation figures of every stage, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_log(log)
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    figure = Figure(figsize=(5 * max(len(stages), 1), 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, max(len(stages), 1), squeeze=False)
    for column, stage in enumerate(stages):
        curves = _curves(row for row in rows if row["stage"] == stage)
        losses = {n: c for n, c in curves.items() if not n.startswith("val_") and n not in ("lr", "gradient_norm")}
        _panel(panels[0, column], losses, f"{stage}: losses")
        errors = {n: c for n, c in curves.items() if n.startswith("val_") and n != QUALITY}
        _panel(panels[1, column], errors, f"{stage}: validation")
        if QUALITY in curves:  # a share beside errors in people: on an axis of its own
            _panel(panels[1, column].twinx(), {QUALITY: curves[QUALITY]}, "", color="tab:green", loc="lower right")
        panels[0, column].set_yscale("symlog", linthresh=1e-3)
        panels[1, column].set_xlabel("epoch")
    with files.atomic(file) as temporary:
        figure.savefig(temporary, dpi=110)


def _curves(rows: Any) -> dict[str, Curve]:
    curves: dict[str, Curve] = defaultdict(list)
    row: Row
    for row in rows:
        curves[row["name"]].append((float(row["epoch"]), float(row["value"])))
    return curves


def _panel(axes: Any, curves: dict[str, Curve], title: str, loc: str = "best", **style: str) -> None:
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), label=name, marker="." if len(curve) < 30 else None, **style)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize=8, loc=loc)
