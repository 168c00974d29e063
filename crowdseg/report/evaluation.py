"""Showing an evaluation: the table, the files, the plot of predicted against true counts."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from crowdseg import files
from crowdseg.engine.evaluation import EvaluationResult
from crowdseg.engine.scoring import ImageScores
from crowdseg.metrics import Matches

NOT_DEFINED = "n/a"


def table(result: EvaluationResult) -> RenderableType:
    """All figures for the terminal."""
    counting = result.counting
    grid = Table(title=_title(result), title_justify="left", title_style="bold", show_header=False, pad_edge=False)
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, style="bold")
    grid.add_column(style="dim")
    grid.add_row("MAE", _number(counting.mae), "people per image")
    grid.add_row("RMSE", _number(counting.rmse), 'the field\'s papers print this as "MSE"')
    grid.add_row("NAE", _percent(counting.nae), f"of the true count, {counting.nae_images} images with people")
    grid.add_row("bias", _number(counting.bias, sign=True), _total(counting.predicted, counting.true))
    for level, value in enumerate(counting.game[1:], 1):
        grid.add_row(
            f"GAME({level})", _number(value), f"over {4**level} cells" if value is not None else "no positions"
        )
    grid.add_section()
    for name, matches in result.localization.items():
        grid.add_row(f"F1 within {name}", _percent(matches.f1), _precision_recall(matches))
    if not result.localization:
        grid.add_row("F1 of points", NOT_DEFINED, "no positions")
    grid.add_section()
    _add_masks(grid, result)
    return Group(grid, *(Text(f"• {note}", style="dim") for note in _remarks(result)))


def _add_masks(grid: Table, result: EvaluationResult) -> None:
    masks = result.instances
    if masks is None:
        grid.add_row("Mean IoU C", NOT_DEFINED, "no masks to compare")
        return
    grid.add_row("Mean IoU C", _percent(masks.mean_iou_c), f"{masks.matches.targets} {result.mask_truth} masks")
    grid.add_row("F1 at IoU 0.5", _percent(masks.matches.f1), _precision_recall(masks.matches))
    grid.add_row("mask AP", _percent(masks.ap), "IoU 0.50:0.95, all detections")
    grid.add_row("mask AP50", _percent(masks.ap50), "IoU 0.50, all detections")


def _remarks(result: EvaluationResult) -> list[str]:
    prepared = "The true masks were prepared from points: mask figures tell the agreement with prep-masks."
    return [*result.notes, *([prepared] if result.mask_truth == "prepared" else [])]


def _title(result: EvaluationResult) -> str:
    return f"{result.name} on {result.data.name or result.data} · {result.split} · {result.counting.images} images"


def _number(value: float | None, sign: bool = False) -> str:
    return NOT_DEFINED if value is None else f"{value:{'+' if sign else ''}.2f}"


def _percent(value: float | None) -> str:
    return NOT_DEFINED if value is None else f"{100 * value:.2f} %"


def _total(predicted: float, true: int) -> str:
    return f"{predicted:,.0f} predicted, {true:,} true in all"


def _precision_recall(matches: Matches) -> str:
    return f"precision {_percent(matches.precision)}, recall {_percent(matches.recall)}"


def document(result: EvaluationResult) -> dict[str, Any]:
    """The totals as JSON: shares in [0, 1], null where a value is not defined."""
    instances = result.instances
    return {
        "name": result.name,
        "source": str(result.source),
        "data": str(result.data),
        "format": result.format,
        "split": result.split,
        "min_score": result.min_score,
        "counting": asdict(result.counting),
        "localization": {name: _matches(matches) for name, matches in result.localization.items()},
        "instances": None
        if instances is None
        else {
            "truth": result.mask_truth,
            "images": instances.images,
            "mean_iou_c": instances.mean_iou_c,
            "ap": instances.ap,
            "ap50": instances.ap50,
            "at_iou_0.5": _matches(instances.matches),
        },
        "notes": result.notes,
    }


def _matches(matches: Matches) -> dict[str, Any]:
    return {**asdict(matches), "precision": matches.precision, "recall": matches.recall, "f1": matches.f1}


def write(result: EvaluationResult, folder: Path) -> list[Path]:
    """``metrics.json``, ``per_image.csv`` and ``counts.png`` in ``folder``; returns their paths."""
    from crowdseg.report.scatter import write_scatter

    paths = [folder / "metrics.json", folder / "per_image.csv", folder / "counts.png"]
    files.write_json(paths[0], document(result))
    with files.atomic(paths[1]) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(_row(result.images[0])))
        writer.writeheader()
        writer.writerows(map(_row, result.images))
    write_scatter(paths[2], result)
    return paths


def _row(image: ImageScores) -> dict[str, Any]:
    """A line of the table of images; a value that is not defined is an empty cell."""
    f1 = {f"f1_within_{name.replace(' ', '_')}": matches.f1 for name, matches in image.localization.items()}
    return {
        "image": image.key,
        "true": image.true,
        "predicted": round(image.predicted, 2),
        "error": round(image.error, 2),
        **f1,
        "masks": None if image.mean_iou_c is None else image.mean_iou_c.instances,
        "mean_iou_c": None if image.mean_iou_c is None else image.mean_iou_c.value,
        "f1_at_iou_0.5": None if image.masks is None else image.masks.f1,
    }
