"""Curves of training runs, from their ``log.csv``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crowdseg import files
from crowdseg.engine.logs import read_log
from crowdseg.errors import DataError, UsageError

QUALITY = "val_mean_iou_c"
VALIDATION = ("val_mae", "val_rmse", QUALITY)
ASIDE = ("lr", "gradient_norm")  # logged, but no losses
UNLABELLED = "_unlabelled"  # ends the name of a loss part on the unlabelled half
COLUMNS = 4  # panels in a row of a comparison

Curve = list[tuple[float, float]]  # (epoch, value)
Curves = dict[tuple[str, str], Curve]  # (stage, name) -> curve


def draw_curves(log: Path, file: Path) -> None:
    """Loss parts and validation figures of every stage, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = _read_curves(log)
    stages = list(dict.fromkeys(stage for stage, _ in found))
    figure = Figure(figsize=(5 * max(len(stages), 1), 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, max(len(stages), 1), squeeze=False)
    for column, stage in enumerate(stages):
        curves = {name: curve for (each, name), curve in found.items() if each == stage}
        losses = {n: c for n, c in curves.items() if not n.startswith("val_") and n not in ASIDE}
        _panel(panels[0, column], losses, f"{stage}: losses")
        errors = {n: c for n, c in curves.items() if n.startswith("val_") and n != QUALITY}
        _panel(panels[1, column], errors, f"{stage}: validation")
        if QUALITY in curves:  # a share beside errors in people: on an axis of its own
            _panel(panels[1, column].twinx(), {QUALITY: curves[QUALITY]}, "", color="tab:green", loc="lower right")
        panels[0, column].set_yscale("symlog", linthresh=1e-3)
        panels[1, column].set_xlabel("epoch")
    with files.atomic(file) as temporary:
        figure.savefig(temporary, dpi=110)


def _panel(axes: Any, curves: dict[str, Curve], title: str, loc: str = "best", **style: str) -> None:
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), label=name, marker="." if len(curve) < 30 else None, **style)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize=8, loc=loc)


def check_picture(file: Path) -> None:
    """UsageError where a picture cannot have this name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = FigureCanvasAgg.get_supported_filetypes()
    if file.suffix.lower().lstrip(".") not in known:
        raise UsageError(f"{file} is no name for a picture: let it end in one of .{', .'.join(sorted(known))}.")


def draw_comparison(logs: Mapping[str, Path], file: Path) -> bool:
    """The curves of several runs, by name: a panel for each figure of each stage, a colour for each run.

    Returns:
        Whether there are any; else nothing is written.

    Raises:
        DataError: a log is damaged.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    stages = _stages({name: _read_curves(log) for name, log in logs.items()})
    if not stages:
        return False
    colours = _colours(list(logs))
    rows = {stage: -(-len(panels) // COLUMNS) for stage, panels in stages.items()}
    figure = Figure(figsize=(4 * COLUMNS, 2.6 * sum(rows.values()) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = iter(figure.subplots(sum(rows.values()), COLUMNS, squeeze=False))
    for stage, panels in stages.items():
        places = [place for _ in range(rows[stage]) for place in next(grid)]
        for place, (figure_name, curves) in zip(places, panels.items(), strict=False):
            _draw_runs(place, f"{stage}: {figure_name}", curves, colours)
        for spare in places[len(panels) :]:
            spare.set_axis_off()
    figure.supxlabel("epoch", fontsize=10)
    handles = [Line2D([], [], label=name, color=colour) for name, colour in colours.items()]
    dashed = Line2D([], [], label="on unlabelled images", color="grey", linestyle="--")
    figure.legend(handles=[*handles, dashed], loc="outside upper left", ncols=COLUMNS)
    with files.atomic(file) as temporary:
        figure.savefig(temporary, dpi=100)
    return True


def _draw_runs(axes: Any, title: str, curves: dict[tuple[str, bool], Curve], colours: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    for (run, unlabelled), curve in curves.items():
        style = "--" if unlabelled else "-"
        marker = "." if len(curve) < 30 else None
        axes.plot(*zip(*curve, strict=True), linestyle=style, marker=marker, color=colours[run])
    values = [value for curve in curves.values() for _, value in curve]
    if min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)


def _colours(runs: list[str]) -> dict[str, Any]:
    """Ten that are easily told apart; for more runs, as many along the rainbow."""
    from matplotlib import colormaps

    few, many = colormaps["tab10"], colormaps["turbo"]
    return {run: few(n) if len(runs) <= 10 else many((n + 0.5) / len(runs)) for n, run in enumerate(runs)}


def _stages(runs: Mapping[str, Curves]) -> dict[str, dict[str, dict[tuple[str, bool], Curve]]]:
    """Stage -> figure -> (run, whether on unlabelled images) -> curve; validation first, one order for all stages."""
    stages: dict[str, dict[str, dict[tuple[str, bool], Curve]]] = {}
    for run, found in runs.items():
        for (stage, name), curve in found.items():
            if name not in ASIDE:
                panel = stages.setdefault(stage, {}).setdefault(name.removesuffix(UNLABELLED), {})
                panel[run, name.endswith(UNLABELLED)] = curve
    first = (*VALIDATION, "loss")
    return {
        stage: dict(sorted(panels.items(), key=lambda panel: (*(panel[0] != name for name in first), panel[0])))
        for stage, panels in stages.items()
    }


def _read_curves(log: Path) -> Curves:
    curves: Curves = defaultdict(list)
    for row in read_log(log):
        try:
            curves[row["stage"], row["name"]].append((float(row["epoch"]), float(row["value"])))
        except ValueError as error:
            raise DataError(f"{log} is damaged: {error}. Delete the line.") from error
    return curves
