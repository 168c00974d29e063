"""Showing an evaluation: the table, the files, the plot of predicted against true counts."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crowdseg import files
from crowdseg.engine.evaluation import EvaluationResult
from crowdseg.engine.figures import f1_name
from crowdseg.engine.scoring import ImageScores
from crowdseg.metrics import DensityBin, Matches, Panoptic
from crowdseg.metrics.localization import AVERAGE
from crowdseg.metrics.matching import ratio
from crowdseg.metrics.resampling import LEVEL, Interval
from crowdseg.report.predictions_page import PAGE, Figure, PredictionsPage

NOT_DEFINED = "-"
TITLES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "nae": "NAE",
    "game_1": "GAME(1)",
    "game_2": "GAME(2)",
    "game_3": "GAME(3)",
    "mean_iou_c": "Mean IoU C",
    "f1_at_iou_0.5": "F1 at IoU 0.5",
    "boundary_f": "boundary F",
    "pq": "PQ",
    "sq": "SQ",
    "rq": "RQ",
    "ap": "mask AP",
    "ap50": "mask AP50",
}
SHARES = ("nae", "f1", "mean_iou_c", "boundary_f", "pq", "sq", "rq", "ap")  # how the names of figures in [0, 1] begin


def table(result: EvaluationResult) -> RenderableType:
    """All figures for the terminal."""
    grid = Table(title=escape(_title(result)), title_justify="left", title_style="bold", pad_edge=False)
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, style="bold")
    grid.add_column(f"{LEVEL:.0%} interval" if result.resamples else "", justify="right", no_wrap=True, style="dim")
    grid.add_column(style="dim")
    for name, value, remark in _rows(result):
        if name is None:
            grid.add_section()
        else:
            grid.add_row(title_of(name), figure(name, value), _interval_of(result, name), remark)
    notes = (Text(f"• {note}", style="dim") for note in _remarks(result))
    return Group(grid, _density(result.counting.by_density), *notes)


def _interval_of(result: EvaluationResult, name: str) -> str:
    return interval(name, result.intervals[name]) if name in result.intervals else ""


Row = tuple[str | None, float | None, str]  # the figure's name (None: a line), value, remark
LINE: Row = (None, None, "")


def _rows(result: EvaluationResult) -> Iterator[Row]:
    counting = result.counting
    yield "mae", counting.mae, "people per image"
    yield "rmse", counting.rmse, 'the field\'s papers print this as "MSE"'
    yield "nae", counting.nae, f"of the true count, {counting.nae_images} images with people"
    yield "bias", counting.bias, _total(counting.predicted, counting.true)
    for level, value in enumerate(counting.game[1:], 1):
        yield f"game_{level}", value, f"{4**level} cells" if value is not None else "no positions"
    yield LINE
    for name, matches in result.localization.items():
        mean = "means of " if name == AVERAGE else ""
        yield f1_name(name), matches.f1, mean + _precision_recall(matches)
    if not result.localization:
        yield "f1_of_points", None, "no positions"
    yield LINE
    yield from _mask_rows(result)


def _mask_rows(result: EvaluationResult) -> Iterator[Row]:
    masks = result.instances
    if masks is None:
        yield "mean_iou_c", None, "no masks to compare"
        return
    yield "mean_iou_c", masks.mean_iou_c, f"{masks.matches.targets} {result.mask_truth} masks"
    yield "f1_at_iou_0.5", masks.matches.f1, _precision_recall(masks.matches)
    yield "boundary_f", masks.boundary_f, f"outlines within {masks.boundary_tolerance:g} px"
    yield "pq", masks.panoptic.pq, "SQ x RQ"
    yield "sq", masks.panoptic.sq, f"mean IoU of {masks.panoptic.matches.matched} pairs over IoU 0.5"
    yield "rq", masks.panoptic.rq, _precision_recall(masks.panoptic.matches)
    yield "ap", masks.ap, "IoU 0.50:0.95, all detections"
    yield "ap50", masks.ap50, "IoU 0.50, all detections"


def _density(bins: tuple[DensityBin, ...]) -> Table:
    """The errors of counts by how many people there are; only bins that have images."""
    grid = Table(box=None, pad_edge=False, title="by true count", title_justify="left", title_style="dim")
    for name in ("people", "images", "MAE", "RMSE", "NAE", "bias"):
        grid.add_column(name, justify="right", header_style="dim")
    for row in _density_rows(bins):
        grid.add_row(*row)
    return grid


def _density_rows(bins: tuple[DensityBin, ...]) -> list[list[str]]:
    return [
        [
            people(each),
            f"{each.images}",
            *(figure(name, getattr(each, name)) for name in ("mae", "rmse", "nae", "bias")),
        ]
        for each in bins
        if each.images
    ]


def people(each: DensityBin) -> str:
    """The bin's counts: "101-500", "over 5000", "0"."""
    if each.most is None:
        return f"over {each.least - 1}"
    return f"{each.least}-{each.most}" if each.most > each.least else f"{each.least}"


def _remarks(result: EvaluationResult) -> list[str]:
    prepared = "The true masks were prepared from points: mask figures tell the agreement with prep-masks."
    return [*result.notes, *([prepared] if result.mask_truth == "prepared" else [])]


def _title(result: EvaluationResult) -> str:
    number = result.counting.images
    images = f"{number} image{'s' if number != 1 else ''}"
    return f"{result.name} on {result.data.name or result.data} · {result.split} · {images}"


def title_of(name: str) -> str:
    """A figure's name as tables show it: "f1_within_4_px" -> "F1 within 4 px"."""
    within = name.removeprefix("f1_within_")
    if within != name:
        return f"F1 within {within if within.startswith('sigma') else within.replace('_', ' ')}"
    return TITLES.get(name, name.replace("f1", "F1").replace("_", " "))


def figure(name: str, value: float | None) -> str:
    """A figure as text, by its name: shares in percent, the bias with its sign."""
    if value is None:
        return NOT_DEFINED
    return f"{100 * value:.2f} %" if name.startswith(SHARES) else f"{value:{'+' if name == 'bias' else ''}.2f}"


def change(name: str, value: float | None) -> str:
    """A difference of two figures as text, with its sign: of shares in percentage points."""
    if value is None:
        return NOT_DEFINED
    return f"{100 * value:+.2f} pp" if name.startswith(SHARES) else f"{value:+.2f}"


def interval(name: str, value: Interval | None, text: Callable[[str, float], str] = figure) -> str:
    """An interval of that figure, or of its change, as text."""
    return NOT_DEFINED if value is None else f"{text(name, value.low)} to {text(name, value.high)}"


def _share(value: float | None) -> str:
    return figure("f1", value)


def _total(predicted: float, true: int) -> str:
    return f"{predicted:,.0f} predicted, {true:,} true in all"


def _precision_recall(matches: Matches) -> str:
    return f"precision {_share(matches.precision)}, recall {_share(matches.recall)}"


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
            "boundary_f": instances.boundary_f,
            "boundary_tolerance": instances.boundary_tolerance,
            **_panoptic(instances.panoptic),
            "ap": instances.ap,
            "ap50": instances.ap50,
            "at_iou_0.5": _matches(instances.matches),
        },
        "intervals": {
            "level": LEVEL,
            "resamples": result.resamples,
            "seed": result.seed,
            "of": {name: interval and asdict(interval) for name, interval in result.intervals.items()},
        },
        "notes": result.notes,
    }


def _matches(matches: Matches) -> dict[str, Any]:
    return {**asdict(matches), "precision": matches.precision, "recall": matches.recall, "f1": matches.f1}


def _panoptic(panoptic: Panoptic) -> dict[str, Any]:
    return {name: getattr(panoptic, name) for name in ("pq", "sq", "rq")} | {"pairs": _matches(panoptic.matches)}


def write(result: EvaluationResult, folder: Path, page: PredictionsPage | None = None) -> list[Path]:
    """``metrics.json``, ``per_image.csv`` and ``counts.png`` in ``folder``, and ``page.html`` if ``page`` looked on;
    returns their paths."""
    from crowdseg.report.scatter import write_scatter

    paths = [folder / "metrics.json", folder / "per_image.csv", folder / "counts.png"]
    files.write_json(paths[0], document(result))
    with files.atomic(paths[1]) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(image_row(result.images[0])))
        writer.writeheader()
        writer.writerows(map(image_row, result.images))
    write_scatter(paths[2], result)
    if page is not None:
        paths.append(folder / PAGE)
        _write_page(paths[-1], page, result)
    return paths


def _write_page(path: Path, page: PredictionsPage, result: EvaluationResult) -> None:
    main = {"mae", "rmse", "nae", "bias", "mean_iou_c", *map(f1_name, [*result.localization][1:2])}
    figures = [
        Figure(title_of(name), figure(name, value), _interval_of(result, name), remark, main=name in main)
        for name, value, remark in _rows(result)
        if name is not None
    ]
    page.write(
        path,
        _title(result),
        about=f"{result.source}; people scored above {result.min_score:g}.",
        figures=[*figures, *_confusion(result)],
        density=_density_rows(result.counting.by_density),
        notes=_remarks(result),
    )


def _confusion(result: EvaluationResult) -> Iterator[Figure]:
    """Who of all images was hit, false and missed, as the page shows it image by image."""
    for name, matches in [*result.localization.items()][1:2]:
        numbers = matches.matched, matches.predictions - matches.matched, matches.targets - matches.matched
        yield Figure(
            "hit · false · missed", " · ".join(f"{number:,}" for number in numbers), "", f"within {name}", True
        )


def image_row(image: ImageScores) -> dict[str, Any]:
    """A line of the table of images; a value that is not defined is an empty cell."""
    f1 = {f1_name(name): matches.f1 for name, matches in image.localization.items()}
    masks = image.masks
    return {
        "image": image.key,
        "true": image.true,
        "predicted": round(image.predicted, 2),
        "error": round(image.error, 2),
        **{f"game_{level}": image.game[level] if image.game else None for level in (1, 2, 3)},
        **f1,
        "masks": masks and masks.mean_iou_c.instances,
        "mean_iou_c": masks and masks.mean_iou_c.value,
        "f1_at_iou_0.5": masks and masks.matches.f1,
        "boundary_f": masks and ratio(masks.boundary_sum, masks.mean_iou_c.instances),
        **{name: masks and getattr(masks.panoptic, name) for name in ("pq", "sq", "rq")},
    }
