"""Masks for a whole dataset: restartable, in parallel over images, one bad image does not stop the rest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import crowdseg
from crowdseg import files
from crowdseg.data import Dataset, load_dataset
from crowdseg.errors import DataError, UsageError, WriteError
from crowdseg.masks import weights
from crowdseg.masks.settings import MaskSettings
from crowdseg.masks.store import MANIFEST, MaskStore, Record, identity
from crowdseg.structures import Sample

Tick = Callable[[int, int], None]  # images finished, of how many


@dataclass(frozen=True)
class PrepResult:
    """What :func:`prep_masks` did.

    Attributes:
        folder: the masks; open it with :class:`crowdseg.masks.MaskStore`.
        dataset: as read. segmenter: ``"superpixel"`` or ``"sam"``.
        images: annotated images of the chosen splits; ``done`` of them now, ``kept`` from an earlier run.
        redone: of ``done``, those made earlier with other settings or points, or damaged since.
        people: over all finished images. sources: people by where their mask came from.
        median_area: pixels. mean_leakage: share in [0, 1]. seconds: wall time.
        failures: images that could not be done or drawn, with the reason.
        damaged: what was wrong with files of an earlier run; their images were done anew.
        previews: contact sheets that were written.
    """

    folder: Path
    dataset: Dataset
    segmenter: str
    images: int
    done: int
    kept: int
    redone: int
    people: int
    sources: dict[str, int]
    median_area: float
    mean_leakage: float
    seconds: float
    failures: list[tuple[Path, str]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    previews: list[Path] = field(default_factory=list)


def prep_masks(
    data: Path | str | Dataset,
    out: Path | str | None = None,
    *,
    segmenter: str = "auto",
    sam_checkpoint: Path | str | None = None,
    sam_model: str | None = None,
    split: str | None = None,
    workers: int | None = 1,
    preview: int = 0,
    progress: Tick | None = None,
    download: weights.Tick | None = None,
    drawing: Tick | None = None,
) -> PrepResult:
    """Make an instance mask for every annotated point of a dataset; images finished earlier are kept.

    Args:
        data: a dataset as downloaded, see :func:`crowdseg.load_dataset`.
        out: folder for the masks; default ``runs/masks/<dataset folder>`` under the current folder.
        segmenter: ``"superpixel"``, ``"sam"``, or ``"auto"``: sam where a checkpoint or a model is given.
        sam_checkpoint: weights of segment-anything, or the folder of a SAM-like model of ``transformers``; None for
            the official weights, which are downloaded once.
        sam_model: ``"vit_b"``, ``"vit_l"`` or ``"vit_h"``, None for the first; a folder says itself what it holds.
        split: ``"train"``, ``"val"`` or ``"test"``; None for all images.
        workers: processes; None for one per core, fewer for few images and one with SAM. More than one needs an
            importable main module (``if __name__ ...``).
        preview: images on contact sheets, spread over all of them.
        progress: told how many images are finished, of how many.
        download: told how many bytes of the weights are there, of how many.
        drawing: told how many images are drawn for the contact sheets, of how many.

    Raises:
        UsageError: no such dataset, split or segmenter, or ``out`` is not a place for masks.
        SetupError: the SAM weights are not there, cannot be downloaded, or are not of this model.
        WriteError: masks cannot be kept; those that were finished are.
    """
    start = time.perf_counter()
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    samples = _annotated(dataset, split)
    settings, checkpoint = _settings(segmenter, sam_checkpoint, sam_model, download)
    folder = Path(out) if out is not None else files.RUNS / "masks" / dataset.root.resolve().name
    store = _store(folder, dataset, settings)
    run = _Run(store, len(samples), progress)
    todo = [sample for sample in samples if not run.keeps(sample)]
    redone = {sample.key for sample in todo if store.has(sample)}
    making = _making(todo, store, settings, checkpoint, workers)
    MaskStore.create(folder, store.manifest)
    store.note(dataset)
    try:
        for sample, problem in making:
            run.add(sample, problem)
    except WriteError as error:
        raise WriteError(f"{error} The images that were finished are kept.") from error
    previews, undrawn = _previews(store, [each for each in samples if each.key not in run.failures], preview, drawing)
    return PrepResult(
        folder=folder,
        dataset=dataset,
        segmenter=settings.segmenter,
        images=len(samples),
        done=len(todo) - len(run.failures),
        kept=len(samples) - len(todo),
        redone=len(redone - run.failures.keys()),
        **run.figures(),
        seconds=time.perf_counter() - start,
        failures=[*run.failures.values(), *undrawn],
        damaged=run.damaged,
        previews=previews,
    )


class _Run:
    """What has come of the images so far. Of the people only figures are held: a dataset has millions."""

    def __init__(self, store: MaskStore, images: int, progress: Tick | None) -> None:
        self.store, self.images, self.progress = store, images, progress
        self.settled = 0
        self.failures: dict[str, tuple[Path, str]] = {}
        self.damaged: list[str] = []
        self.sources: Counter[str] = Counter()
        self.areas: list[int] = []
        self.leakages: list[float] = []
        self._tell()

    def keeps(self, sample: Sample) -> bool:
        """Whether an earlier run finished the image; its people are counted then."""
        try:
            records = self.store.current_records(sample)
        except DataError as error:
            self.damaged.append(str(error))
            return False
        if records is not None:
            self._count(records)
        return records is not None

    def add(self, sample: Sample, problem: str | None) -> None:
        """An image that is finished now, or failed."""
        if problem is not None:
            self.failures[sample.key] = (sample.image, problem)
        self._count([] if problem is not None else self.store.records(sample))

    def figures(self) -> dict[str, Any]:
        """Over all people so far, as :class:`PrepResult` names them."""
        return {
            "people": len(self.areas),
            "sources": dict(self.sources.most_common()),
            "median_area": float(np.median(self.areas)) if self.areas else 0.0,
            "mean_leakage": float(np.mean(self.leakages)) if self.leakages else 0.0,
        }

    def _count(self, records: list[Record]) -> None:
        self.sources.update(record.source for record in records)
        self.areas += [record.area for record in records]
        self.leakages += [record.leakage for record in records]
        self.settled += 1
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.settled, self.images)


def _annotated(dataset: Dataset, split: str | None) -> list[Sample]:
    if split is not None and split not in dataset.splits:
        raise UsageError(f"{dataset.root} has no split {split!r}, only {', '.join(dataset.splits)}.")
    chosen = dataset.samples if split is None else dataset.split(split)
    samples = [sample for sample in chosen if sample.points is not None]
    if not samples:
        raise UsageError(f"{dataset.root} has no annotated images to make masks for: try `crowdseg data check`.")
    return samples


def _settings(
    segmenter: str, checkpoint: Path | str | None, model: str | None, download: weights.Tick | None
) -> tuple[MaskSettings, Path | None]:
    """The settings that are asked for, and the weights, which are downloaded if need be."""
    if segmenter not in ("auto", "superpixel", "sam"):
        raise UsageError(f"There is no segmenter {segmenter!r}: choose auto, superpixel or sam.")
    asked = checkpoint is not None or model is not None
    if segmenter == "superpixel" and asked:
        raise UsageError(
            "A SAM checkpoint or model is of no use to the superpixel segmenter: leave one of the two out."
        )
    if segmenter == "superpixel" or (segmenter == "auto" and not asked):
        return MaskSettings(), None
    if checkpoint is not None and Path(checkpoint).is_dir():
        if model is not None:
            raise UsageError(f"The folder {checkpoint} says itself what model it holds: leave out --sam-model {model}.")
        return MaskSettings("sam", None, _identity(Path(checkpoint))), Path(checkpoint)
    weights_of = weights.official(model or "vit_b")
    path = weights.fetch(weights_of, download) if checkpoint is None else Path(checkpoint)
    return MaskSettings("sam", model or "vit_b", _identity(path)), path


def _identity(checkpoint: Path) -> str | None:
    """By what other weights are noticed."""
    files_of = [checkpoint] if checkpoint.is_file() else sorted(checkpoint.glob("*.*"))
    return f"{checkpoint.name}, {sum(file.stat().st_size for file in files_of)} bytes" if files_of else None


def _store(folder: Path, dataset: Dataset, settings: MaskSettings) -> MaskStore:
    """The folder for the masks, untouched yet; refused where it would mix with the dataset or another one's masks."""
    own = {file.parent.resolve() for sample in dataset.samples for file in (sample.image, sample.annotation) if file}
    if taken := next((place for place in own if folder.resolve().is_relative_to(place)), None):
        raise UsageError(f"{folder} is inside the dataset's own folder {taken}: choose another --out.")
    if (folder / MANIFEST).exists():
        MaskStore.open(folder).check_is_of(dataset)
    content = {"crowdseg": crowdseg.__version__, "segmenter": settings.segmenter, "settings": asdict(settings)}
    return MaskStore(folder, {**content, "dataset": identity(dataset)})


def _making(
    samples: list[Sample], store: MaskStore, settings: MaskSettings, checkpoint: Path | None, workers: int | None
) -> Iterator[tuple[Sample, str | None]]:
    """Each sample as it is finished, with what went wrong. Where none is left nothing is loaded: that takes seconds.

    Weights that are not there are refused at once, before anything is written.
    """
    if not samples:
        return iter(())
    from crowdseg.masks.workers import Worker, prepare_all

    return prepare_all(samples, store, Worker(settings, checkpoint), workers)


def _previews(
    store: MaskStore, samples: list[Sample], number: int, drawing: Tick | None
) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Contact sheets of ``number`` images spread over the dataset, and the images that could not be drawn."""
    if number <= 0 or not samples:
        return [], []
    from crowdseg.report.contact_sheet import write_contact_sheets

    spread = np.unique(np.linspace(0, len(samples) - 1, min(number, len(samples))).round().astype(int))
    chosen = [samples[index] for index in spread]
    return write_contact_sheets(store.folder / "previews", store, chosen, drawing)
