"""Showing runs: the list, and what distinguishes some of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from crowdseg.engine.runs import Comparison, Run
from crowdseg.report import console

NONE = "–"
Figures = dict[str, Any] | None


def print_runs(runs: Sequence[Run]) -> None:
    """The list on stdout; as wide as it needs where that is no terminal."""
    table, out = _runs_table(runs), console.out
    if not out.is_terminal:
        out = Console(width=Measurement.get(out, out.options.update(width=1000), table).maximum)
    out.print(table)


def _runs_table(runs: Sequence[Run]) -> Table:
    """Two lines a run: the scores on the validation images, and on the test images."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold")
    for name in ("preset", "data", "changed", "state", "on"):
        table.add_column(name, no_wrap=True)
    for name in ("MAE", "RMSE", "Mean IoU C"):
        table.add_column(name, justify="right")
    for run in runs:
        changed = datetime.fromtimestamp(run.changed).strftime("%Y-%m-%d\n%H:%M")
        data = Path(run.data["root"]).name if run.data else NONE
        words = (f"{run.folder}\n{run.record['task']}", f"{run.settings['preset']}\n{_ratio(run)}", data, changed)
        scores = map("\n".join, zip(_main(run.val), _main(run.test), strict=True))
        table.add_row(*map(escape, (*words, _state(run))), "val\ntest", *scores)
    return table


def _ratio(run: Run) -> str:
    """The labelled share, or the file that names the labelled images."""
    protocol = run.settings.get("protocol")
    return NONE if not run.data else Path(protocol).name if protocol else f"ratio {run.settings.get('ratio')}"


def _state(run: Run) -> str:
    if run.finished:
        return "finished" if run.data else "imported"
    if run.place is None:
        return "unfinished"
    stage, epoch = run.place
    return f"{stage}\nepoch {epoch} of {run.settings.get(stage, {}).get('epochs', '?')}"


def _main(figures: Figures) -> list[str]:
    found = figures or {}
    return [_number(found.get("mae")), _number(found.get("rmse")), _percent(found.get("mean_iou_c"))]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f} %"


def runs_json(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The list for other programs: shares in [0, 1], null for what is not known."""
    return [
        {
            "run": str(run.folder),
            "task": run.record["task"],
            **{name: run.settings.get(name) for name in ("preset", "backbone", "ratio", "protocol")},
            "data": run.data.get("root"),
            "changed": datetime.fromtimestamp(run.changed).astimezone().isoformat(timespec="seconds"),
            "finished": run.finished,
            "stage": run.place[0] if run.place else None,
            "epoch": run.place[1] if run.place else None,
            "val": run.val,
            "test": run.test,
        }
        for run in runs
    ]


def comparison_tables(comparison: Comparison) -> RenderableType:
    """What differs, the scores, and what to know about them."""
    differing = _side_by_side("what differs", comparison.runs)
    for name, values in comparison.differing:
        differing.add_row(escape(name), *(escape(NONE if value is None else str(value)) for value in values))
    if not comparison.differing:
        differing.add_row("nothing but the folder")
    scores = _side_by_side("score", comparison.runs)
    columns = [_scores(run) for run in comparison.runs]
    for name in dict.fromkeys(name for column in columns for name in column):
        scores.add_row(escape(name), *(column.get(name, NONE) for column in columns))
    return Group(differing, scores, *(Text(f"• {note}", style="dim") for note in comparison.notes))


def _side_by_side(title: str, runs: Sequence[Run]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title, style="cyan")
    for run in runs:
        table.add_column(escape(str(run.folder)), justify="right", overflow="fold")
    return table


def _scores(run: Run) -> dict[str, str]:
    """Every score by name, as text, in the order of the table."""
    scores = {}
    if run.val:
        scores["weights of"] = f"{run.val['stage']}, epoch {run.val['epoch']}"
        scores |= dict(zip(("val MAE", "val RMSE", "val Mean IoU C"), _main(run.val), strict=True))
    if run.test:
        mae, rmse, quality = _main(run.test)
        scores |= {"test MAE": mae, "test RMSE": rmse, "test NAE": _percent(run.test["nae"])}
        scores |= {f"test F1 within {name}": _percent(f1) for name, f1 in run.test["f1"].items()}
        scores[f"test Mean IoU C ({run.test['mask_truth'] or 'no'} masks)"] = quality
    return scores
