"""Two runs, or two tools' predictions, on the same images: what differs, and whether chance would explain it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowdseg.data import Dataset
from crowdseg.engine.evaluation import EvaluationResult, evaluate
from crowdseg.engine.figures import MASK_FIGURES, statistics
from crowdseg.errors import UsageError
from crowdseg.metrics.resampling import Difference, compare


@dataclass(frozen=True)
class ScoreComparison:
    """Two evaluations on the same images, figure by figure.

    Attributes:
        first, second: the evaluations.
        figures: by name (:func:`crowdseg.engine.figures.statistics`); differences are second - first.
        closer: on how many images the count of the first, the count of the second, and neither is closer to the truth.
        notes: what a reader of the figures must know, each a sentence.
    """

    first: EvaluationResult
    second: EvaluationResult
    figures: dict[str, Difference]
    closer: tuple[int, int, int]
    notes: list[str]


def compare_scores(
    first: str | Path,
    second: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    masks: str | Path | None = None,
    **options: Any,
) -> ScoreComparison:
    """Score two runs, or files of predictions, on the same images and test the differences.

    Args:
        first, second: a run's folder or weights, or a file of predictions.
        data: a dataset or its folder; default the one that both runs were trained on.
        masks: a prep-masks folder, as in :func:`crowdseg.evaluate`.
        options: further ones of :func:`crowdseg.evaluate`.

    Raises:
        UsageError, DataError: as in :func:`crowdseg.evaluate`; or the two were not scored on the same images.
    """
    if Path(first).resolve() == Path(second).resolve():
        raise UsageError(f"{first} is to be compared with itself: name two runs.")
    results = [_evaluate(source, data, masks=masks, **options) for source in (first, second)]
    return compare_results(*results)


def compare_results(first: EvaluationResult, second: EvaluationResult) -> ScoreComparison:
    """Compare two evaluations that exist already, image by image; their images may be in different orders.

    Raises:
        UsageError: they are not of the same images.
    """
    _check_same_images(first, second)
    places = {image.key: place for place, image in enumerate(first.images)}
    second = replace(second, images=sorted(second.images, key=lambda image: places[image.key]))
    notes = list(_notes(first, second))
    figures = compare(statistics(first.images), statistics(second.images), first.resamples, first.seed)
    if first.instances and second.instances and first.masks != second.masks:
        figures = {name: value for name, value in figures.items() if name not in MASK_FIGURES}
        notes.append(
            f"Masks are not compared: the true ones of the first are from {first.masks or first.data}, those of the"
            f" second from {second.masks or second.data}. Name one folder with --masks."
        )
    return ScoreComparison(first, second, figures, _closer(first, second), notes)


def _evaluate(source: str | Path, data: str | Path | Dataset | None, **options: Any) -> EvaluationResult:
    """A folder, or weights, are a run; any other file is predictions."""
    path = Path(source)
    if not path.exists():
        raise UsageError(f"{path} is not there: name a run's folder or a file of predictions.")
    if path.is_dir() or path.suffix == ".safetensors":
        return evaluate(path, data, **options)
    return evaluate(None, data, predictions=path, **options)


def _check_same_images(first: EvaluationResult, second: EvaluationResult) -> None:
    if first.data.resolve() != second.data.resolve():
        raise UsageError(
            f"{first.name} was scored on {first.data}, {second.name} on {second.data}. Name one dataset with --data."
        )
    keys = [{image.key for image in result.images} for result in (first, second)]
    if keys[0] != keys[1]:
        raise UsageError(
            f"{first.name} and {second.name} have different {first.split} images ({len(keys[0] & keys[1])} of"
            f" {len(keys[0] | keys[1])} in common). Choose a split that both share with --split."
        )


def _notes(first: EvaluationResult, second: EvaluationResult) -> Iterator[str]:
    """What is to be known of both, then of either."""
    if first.min_score != second.min_score:
        yield f"Of A people scored above {first.min_score:g} count, of B those above {second.min_score:g}."
    yield from (note for note in first.notes if note in second.notes)
    yield from (f"A: {note}" for note in first.notes if note not in second.notes)
    yield from (f"B: {note}" for note in second.notes if note not in first.notes)


def _closer(first: EvaluationResult, second: EvaluationResult) -> tuple[int, int, int]:
    errors = [(abs(a.error), abs(b.error)) for a, b in zip(first.images, second.images, strict=True)]
    won = sum(a < b for a, b in errors), sum(b < a for a, b in errors)
    return (*won, len(errors) - sum(won))
