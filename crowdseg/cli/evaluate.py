"""``crowdseg eval``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from crowdseg.engine import EvaluationResult, ScoreComparison
    from crowdseg.report.predictions_page import PredictionsPage

DEFAULT_SCORE = 0.5
TOLERANCE, RESAMPLES = 2.0, 2000  # those of crowdseg.metrics, which it takes long to import


class Split(str, Enum):
    """The parts of a dataset."""

    test = "test"
    val = "val"
    train = "train"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("eval")(evaluate)


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="A run's folder. Default: the newest one under ./runs.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Argument(help="A dataset as downloaded. Default: the one the run was trained on.", show_default=False),
    ] = None,
    data_option: Annotated[
        Path | None, typer.Option("--data", metavar="DATA", help="The dataset, with --predictions or without RUN.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Part of the dataset to score.")] = Split.test,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Score this file of another tool instead: COCO JSON, CSV of counts or points, NWPU text."),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="prep-masks folder, truth where the dataset has no masks of its own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: runs/eval/NAME.")] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="People scored above this count.")] = DEFAULT_SCORE,
    tile: Annotated[int | None, typer.Option(min=64, help="Side of the tiles of larger images, in pixels.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What may be held in memory, as 3GB. Default: half of the free.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    boundary_tolerance: Annotated[
        float, typer.Option(min=0, help="Outlines this close agree, in pixels (boundary F).")
    ] = TOLERANCE,
    resamples: Annotated[
        int, typer.Option(min=0, help="Draws of images for the intervals; 0 for no intervals and no p.")
    ] = RESAMPLES,
    seed: Annotated[int, typer.Option(min=0, help="Of these draws.")] = 0,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Score two runs, or files of predictions, and test the differences."),
    ] = None,
    page: Annotated[bool, typer.Option(help="Write page.html to look through the images (not with --compare).")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Score a run, or another tool's predictions: counts, positions and masks.

    Writes metrics.json, per_image.csv and counts.png, a plot of predicted against true counts, and page.html to look
    through the images, the worst first. The main figures are also left in the run, for `crowdseg runs`. With --compare:
    comparison.json, and per_image.csv with both.
    """
    from crowdseg.engine import compare_scores
    from crowdseg.engine import evaluate as evaluate_
    from crowdseg.memory import parse_memory
    from crowdseg.report.predictions_page import PredictionsPage

    run, data = _sort_out(run, data, data_option, alone=predictions is not None or compare is not None)
    options = {
        "split": split.value,
        "masks": masks,
        "min_score": min_score,
        "tile": tile,
        "max_memory": None if max_memory is None else parse_memory(max_memory),
        "device": device,
        "boundary_tolerance": boundary_tolerance,
        "resamples": resamples,
        "seed": seed,
    }
    suffix = "" if split is Split.test else f"-{split.value}"
    if compare is not None:
        _refuse_beside_compare(run, predictions)
        comparison = compare_scores(*compare, data, **options)
        first, second = comparison.first, comparison.second
        _show(comparison, out or Path("runs/eval") / f"{first.name}-vs-{second.name}{suffix}", as_json)
        results = [result for result in (first, second) if result.source.is_dir()]
    else:
        shown = PredictionsPage() if page else None
        result = evaluate_(run, data, predictions=predictions, look=shown and shown.look, **options)
        where = f"-on-{result.data.resolve().name}" if result.elsewhere else ""
        _show(result, out or Path("runs/eval") / f"{result.name}{suffix}{where}", as_json, shown)
        results = [result] if predictions is None else []
    if min_score == DEFAULT_SCORE:
        for result in results:
            _leave_in_run(result)


def _show(
    result: EvaluationResult | ScoreComparison, folder: Path, as_json: bool, page: PredictionsPage | None = None
) -> None:
    """Write the files, and the table or JSON to stdout."""
    import json

    from crowdseg.engine import EvaluationResult
    from crowdseg.report import comparison, console, evaluation

    if isinstance(result, EvaluationResult):
        written, document, table = (
            evaluation.write(result, folder, page),
            evaluation.document(result),
            evaluation.table(result),
        )
    else:
        written, document, table = (
            comparison.write(result, folder),
            comparison.document(result),
            comparison.table(result),
        )
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        console.out.print(table)
    console.err.print(f"Written to {folder}: {', '.join(path.name for path in written)}", highlight=False, markup=False)


def _refuse_beside_compare(run: Path | None, predictions: Path | None) -> None:
    from crowdseg.errors import UsageError

    if run is not None or predictions is not None:
        raise UsageError(
            f"--compare A B already names what is scored; {run or predictions} beside it is too much. A and B may be"
            " runs or files of predictions."
        )


def _leave_in_run(result: EvaluationResult) -> None:
    """For `crowdseg runs`. A run whose folder takes nothing is no failure of its evaluation."""
    from crowdseg.engine.runs import save_scores
    from crowdseg.errors import DataError
    from crowdseg.report import console

    try:
        save_scores(result.source, result)
    except DataError as error:
        console.err.print(f"`crowdseg runs` will not show these figures. {error}", highlight=False, markup=False)


def _sort_out(
    run: Path | None, data: Path | None, data_option: Path | None, alone: bool
) -> tuple[Path | None, Path | None]:
    """Run and dataset; a lone first argument may be either, and is the dataset where options say what to score."""
    from crowdseg.errors import UsageError

    if data is not None and data_option is not None:
        raise UsageError(f"Two datasets are named: {data} and {data_option}. Name one.")
    data = data or data_option
    if run is not None and data is None and (alone or not _is_run(run)) and run.exists():
        return None, run
    return run, data


def _is_run(path: Path) -> bool:
    """Whether this is a run's folder, or a file in one."""
    return (path / "weights.json").is_file() or (path.parent / "weights.json").is_file()
