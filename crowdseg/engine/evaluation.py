"""Scoring a trained model, or the predictions another tool wrote, against a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from crowdseg.data import Dataset, load_dataset
from crowdseg.engine.figures import statistics
from crowdseg.engine.findings import Look, findings
from crowdseg.engine.prediction_files import read_predictions
from crowdseg.engine.scoring import ImageScores, Scorer, Truth
from crowdseg.errors import UsageError
from crowdseg.metrics import CountingResult, InstanceResult, Matches
from crowdseg.metrics.boundary import TOLERANCE
from crowdseg.metrics.counting import DENSITY_EDGES
from crowdseg.metrics.resampling import RESAMPLES, Interval, bootstrap
from crowdseg.report.console import progress
from crowdseg.structures import Prediction, Sample

# The density bins that a dataset's authors use, where they are not NWPU-Crowd's.
DENSITY_EDGES_OF = {"jhu": (50, 500)}


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of one model (or predictions file) on one split.

    Attributes:
        name: the run's or the file's name, each with that of its folder.
        source: the run's folder or the predictions file.
        data, format, split: what it was scored on.
        min_score: people scored above count. Average precision is over all that were delivered: all of a predictions
            file, and of a run those above ``min_score``.
        counting: errors of the counts.
        localization: matches by name of the distance; empty where the predictions have no positions.
        instances: quality of the masks, or None where they are missing on either side.
        mask_truth: where the true masks come from: ``"annotated"`` by hand, or ``"prepared"`` from points by
            prep-masks, which measures agreement with that method rather than with people's outlines. None without.
        masks: the prep-masks folder where the true masks are prepared ones, else None.
        images: one per scored image.
        intervals: by name of the figure (:func:`crowdseg.engine.figures.statistics`), None where it is not defined.
        resamples, seed: how they were drawn.
        notes: what a reader of the figures must know, each a sentence.
        elsewhere: it is a run, scored on another dataset than it was trained on.
    """

    name: str
    source: Path
    data: Path
    format: str
    split: str
    min_score: float
    counting: CountingResult
    localization: dict[str, Matches]
    instances: InstanceResult | None
    mask_truth: str | None
    masks: Path | None
    images: list[ImageScores]
    intervals: dict[str, Interval | None]
    resamples: int
    seed: int
    notes: list[str]
    elsewhere: bool = False


@dataclass(frozen=True)
class _Source:
    """Where predictions come from."""

    name: str
    path: Path
    predict: Callable[[Sample], Prediction]
    located: bool = True


def evaluate(
    run: str | Path | None = None,
    data: str | Path | Dataset | None = None,
    *,
    split: str = "test",
    predictions: str | Path | None = None,
    masks: str | Path | None = None,
    min_score: float = 0.5,
    tile: int | None = None,
    max_memory: int | None = None,
    device: str = "auto",
    boundary_tolerance: float = TOLERANCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    look: Look | None = None,
) -> EvaluationResult:
    """Score a run, or a file of predictions, on one split of a dataset.

    Args:
        run: folder or weights of a run; default the latest one under ``./runs``.
        data: a dataset or its folder; default the one the run was trained on.
        split: ``"test"``, ``"val"`` or ``"train"``.
        predictions: score this file instead of a run (see :func:`crowdseg.engine.prediction_files.read_predictions`).
        masks: a prep-masks folder, taken as truth where the dataset has no masks of its own; default the one that the
            run was trained on, where it holds masks of these images.
        min_score: people scored above count.
        tile: side in pixels of the tiles in which larger images are predicted; default what memory allows.
        max_memory: bytes that predicting may take, as in :meth:`crowdseg.engine.Model.predict`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        boundary_tolerance: distance in pixels within which outlines agree (boundary F).
        resamples: how many times the images are drawn anew for the intervals; 0 for no intervals.
        seed: of these draws.
        look: called with each image as it is scored and with how each of its people came out; nothing is kept of it.

    Raises:
        UsageError: something that was asked for is not there, or the options contradict one another.
        DataError: a file cannot be read, or the predictions do not fit the dataset.
        OutOfMemory: an image is too large for ``max_memory``.
    """
    if predictions is not None and data is None:
        raise UsageError(f"{predictions} does not say which dataset it is about: name it with --data DATA.")
    if predictions is not None and run is not None:
        raise UsageError(f"{predictions} is to be scored, and so is {run}: name one, or both with --compare.")
    notes: list[str] = []
    elsewhere = False
    if predictions is not None:
        dataset = _dataset(data)
        samples = _samples(dataset, split, notes)
        source = _file_source(Path(predictions), dataset, samples, notes)
    else:
        from crowdseg.engine import load

        model = load(run, device=device)
        trained_on = model.record.get("data") or {}
        dataset = _dataset(trained_on.get("root") if data is None else data)
        elsewhere = trained_on.get("root") not in (None, str(dataset.root.resolve()))
        samples = _samples(dataset, split, notes, trained_on)
        _note_seen_labels(dataset, samples, trained_on, notes)
        source = _model_source(model, {"min_score": min_score, "tile": tile, "max_memory": max_memory})
        masks = masks or _prepared_for(trained_on, samples)
    truth, mask_truth = _mask_truth(samples, masks, notes)
    boxes = _all_have_boxes(samples)
    scorer = Scorer(
        truth,
        min_score=min_score,
        located=source.located,
        boxes=boxes,
        boundary_tolerance=boundary_tolerance,
        density_edges=DENSITY_EDGES_OF.get(dataset.format, DENSITY_EDGES),
    )
    doubtful = 0
    with progress() as bar:
        for sample in bar.track(samples, description=f"Evaluating {escape(source.name)}"):
            prediction = source.predict(sample)
            scorer.add(sample, prediction)
            doubtful += int((prediction.scores <= min_score).sum())
            if look is not None:
                kept = prediction.above(min_score)
                look(findings(sample, kept, scorer.images[-1], boxes=boxes, images=len(samples)))
    if doubtful:
        notes.append(f"{doubtful} people scored {min_score:g} or less do not count (--min-score); AP is over all.")
    if 0 < scorer.masked < len(samples):
        notes.append(f"Masks are scored on the {scorer.masked} of {len(samples)} images that have true ones.")
    return EvaluationResult(
        name=source.name,
        source=source.path,
        data=dataset.root,
        format=dataset.format,
        split=split,
        min_score=min_score,
        counting=scorer.counting.compute(),
        localization=scorer.localization.compute(),
        instances=scorer.instances.compute() if scorer.masked else None,
        mask_truth=mask_truth if scorer.masked else None,
        masks=Path(masks) if masks is not None and scorer.masked and mask_truth == "prepared" else None,
        images=scorer.images,
        intervals=bootstrap(statistics(scorer.images), resamples, seed) if resamples else {},
        resamples=resamples,
        seed=seed,
        notes=notes,
        elsewhere=elsewhere,
    )


def _dataset(data: str | Path | Dataset | None) -> Dataset:
    if data is None:
        raise UsageError("This run does not say what it was trained on. Name the dataset to evaluate on.")
    return data if isinstance(data, Dataset) else load_dataset(data)


def _samples(
    dataset: Dataset, split: str, notes: list[str], trained_on: Mapping[str, Any] | None = None
) -> list[Sample]:
    """The annotated samples of the split; for "val" those that the run split off, where the dataset has none."""
    samples = dataset.split(split)
    if split == "val" and not samples and trained_on:
        split_off = set(trained_on.get("val", ()))
        samples = [sample for sample in dataset.samples if sample.key in split_off]
        notes.append("Validation images are those that the run split off its training images to choose its weights.")
    annotated = [sample for sample in samples if sample.points is not None]
    if not annotated:
        others = {name: sum(s.points is not None for s in part) for name, part in dataset.splits.items()}
        counts = ", ".join(f"{name} {number}" for name, number in others.items() if number) or "none"
        raise UsageError(
            f"{dataset.root} has no annotated images in its {split} split (annotated: {counts}). Choose with --split."
        )
    if len(annotated) < len(samples):
        notes.append(f"{len(samples) - len(annotated)} of {len(samples)} images have no annotation and are left out.")
    return annotated


def _note_seen_labels(dataset: Dataset, samples: list[Sample], trained_on: Mapping[str, Any], notes: list[str]) -> None:
    if trained_on.get("root") == str(dataset.root.resolve()):
        seen = {sample.key for sample in samples} & set(trained_on.get("labelled", ()))
        if seen:
            notes.append(f"The run was trained with the labels of {len(seen)} of these {len(samples)} images.")


def _model_source(model: Any, options: dict[str, Any]) -> _Source:
    # Asked as `crowdseg predict` asks. Doubtful people, asked for and then dropped, would have taken pixels from the
    # masks of the others: what is scored would not be what a user gets.
    from crowdseg.engine.memory import OutOfMemory

    given = {name: value for name, value in options.items() if value is not None}

    def predict(sample: Sample) -> Prediction:
        try:
            return model.predict(sample.image, masks=True, **given)
        except OutOfMemory as error:
            raise OutOfMemory(f"{sample.image}: {error}") from error

    return _Source(model.name, Path(model.run), predict)


def _file_source(file: Path, dataset: Dataset, samples: list[Sample], notes: list[str]) -> _Source:
    content = read_predictions(file, dataset, samples)
    if content.absent:
        notes.append(
            f"{len(content.absent)} of {len(samples)} images are not in {file.name} and count as nobody found."
        )
    if not content.located:
        notes.append(f"{file.name} holds counts without positions: nothing but the counts can be scored.")
    return _Source(_name(file), file, lambda sample: content.predictions[sample.key], content.located)


def _name(file: Path) -> str:
    """As runs are named, with the folder where one is given: many tools write files of one name, ours among them."""
    return f"{file.parent.resolve().name}-{file.stem}" if file.parent.name else file.stem


def _mask_truth(samples: list[Sample], masks: str | Path | None, notes: list[str]) -> tuple[Truth, str | None]:
    """How to get a sample's true masks, and where they come from."""
    if any(sample.masks is not None for sample in samples):
        if masks is not None:
            notes.append(f"The dataset's own masks are the truth; {masks} was not needed.")
        return _annotated_masks, "annotated"
    if masks is None:
        return lambda sample: None, None
    from crowdseg.masks.store import MaskStore

    store = MaskStore.open(Path(masks))
    if not any(store.has(sample) for sample in samples):
        raise UsageError(
            f"{masks} has no masks of these images, such as {samples[0].key}. Run prep-masks on them first."
        )
    return lambda sample: store.labels(sample) if store.has(sample) else None, "prepared"


def _prepared_for(trained_on: Mapping[str, Any], samples: list[Sample]) -> Path | None:
    """The prep-masks folder a run was trained on, if it is of use: the samples have no masks but those."""
    from crowdseg.masks.store import MANIFEST, MaskStore

    folder = Path(trained_on.get("masks") or "")
    if any(sample.masks is not None for sample in samples) or not (folder / MANIFEST).is_file():
        return None
    store = MaskStore.open(folder)
    return folder if any(store.is_current(sample) for sample in samples) else None


def _annotated_masks(sample: Sample) -> list | None:
    return [] if sample.masks is None and sample.count == 0 else sample.masks


def _all_have_boxes(samples: list[Sample]) -> bool:
    crowded = [sample for sample in samples if sample.count]
    return bool(crowded) and all(sample.boxes is not None for sample in crowded)
