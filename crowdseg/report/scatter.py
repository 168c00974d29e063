"""Predicted against true counts, one dot an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from crowdseg import files
from crowdseg.engine.evaluation import EvaluationResult

WIDE = 20  # logarithmic axes where counts span more than this factor
NAMED = 3  # images with the largest errors that are named


def write_scatter(path: Path, result: EvaluationResult) -> None:
    """Write the plot of ``result`` as PNG."""
    true = np.array([image.true for image in result.images], float)
    predicted = np.array([image.predicted for image in result.images], float)
    figure = Figure(figsize=(6, 6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _frame(axes, true, predicted)
    axes.scatter(true, predicted, s=30, alpha=0.6, color="tab:blue", linewidths=0, clip_on=False, zorder=3)
    _name_worst(axes, result, np.abs(predicted - true))
    mae = "-" if result.counting.mae is None else f"{result.counting.mae:.1f}"
    title = f"{result.name} · {result.data.name} {result.split} · MAE {mae}"
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)  # a name may hold dollars
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="png")


def _frame(axes: Axes, true: np.ndarray, predicted: np.ndarray) -> None:
    """Equal axes, logarithmic where counts are of several magnitudes, with the line of perfect counts."""
    values = np.concatenate([true, predicted])
    low, high = 0.0, max(float(values.max()), 1) * 1.1
    if high > WIDE * max(float(values.min()), 1):
        high *= 1.2
        if values.min() < 1:  # linear below one person, so that zero has a place
            axes.set_xscale("symlog", linthresh=1, linscale=0.4)
            axes.set_yscale("symlog", linthresh=1, linscale=0.4)
        else:
            axes.loglog()
            low = float(values.min()) / 1.3
    axes.axline((low, low), (high, high), color="0.6", linewidth=1, linestyle="--")
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="true count", ylabel="predicted count")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name_worst(axes: Axes, result: EvaluationResult, error: np.ndarray) -> None:
    """Names beside the images with the largest errors, on the side away from the line."""
    for index in np.argsort(-error, kind="stable")[:NAMED]:
        image = result.images[index]
        if error[index] > 0:
            side, align = ((-7, 0), "right") if image.error > 0 else ((7, 0), "left")
            axes.annotate(
                image.key.rsplit("/", 1)[-1],
                (image.true, image.predicted),
                side,
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=7,
                color="0.35",
                parse_math=False,
            )
