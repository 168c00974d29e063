"""Masks for a whole dataset: restartable, in parallel over images, one bad image does not stop the rest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import crowdseg
from crowdseg import files
from crowdseg.data import Dataset, load_dataset, read_image
from crowdseg.errors import CrowdsegError, UsageError
from crowdseg.masks import weights
from crowdseg.masks.memory import check_memory
from crowdseg.masks.prepare import masks_from_points
from crowdseg.masks.segmenters import make_segmenter
from crowdseg.masks.settings import MaskSettings
from crowdseg.masks.store import MANIFEST, MaskStore
from crowdseg.structures import Sample

Tick = Callable[[int, int], None]  # images finished, of how many


@dataclass(frozen=True)
class PrepResult:
    """What :func:`prep_masks` did.

    Attributes:
        folder: the masks; open it with :class:`crowdseg.masks.MaskStore`.
        dataset: as read. segmenter: ``"superpixel"`` or ``"sam"``.
        images: annotated images of the chosen splits; ``done`` of them now, ``kept`` from an earlier run.
        redone: of ``done``, those made earlier with other settings or points.
        people: over all finished images. sources: people by where their mask came from.
        median_area: pixels. mean_leakage: share in [0, 1]. seconds: wall time.
        failures: images that could not be done, with the reason.
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
        workers: processes; None for one per core. More than one needs an importable main module (``if __name__ ...``).
        preview: images on contact sheets, spread over all of them.
        progress: told how many images are finished, of how many.
        download: told how many bytes of the weights are there, of how many.

    Raises:
        UsageError: no such dataset, split or segmenter, or ``out`` is not a place for masks.
        SetupError: the SAM weights are not there, cannot be downloaded, or are not of this model.
    """
    start = time.perf_counter()
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    samples = _annotated(dataset, split)
    settings, checkpoint = _settings(segmenter, sam_checkpoint, sam_model, download)
    worker = _Worker(settings, checkpoint)  # missing weights are refused before anything is written
    folder = Path(out) if out is not None else files.RUNS / "masks" / dataset.root.resolve().name
    store = _open_store(folder, dataset, settings)
    files.write_json(files.RUNS / "last.json", {"data": str(dataset.root.resolve()), "masks": str(folder.resolve())})
    todo = [sample for sample in samples if not store.is_current(sample)]
    redone = {sample.key for sample in todo if store.has(sample)}
    failures = {}
    if progress is not None:
        progress(len(samples) - len(todo), len(samples))
    for number, (sample, problem) in enumerate(_prepare(todo, store, worker, workers), 1):
        if problem is not None:
            failures[sample.key] = (sample.image, problem)
        if progress is not None:
            progress(len(samples) - len(todo) + number, len(samples))
    finished = [sample for sample in samples if sample.key not in failures]
    previews = _previews(store, finished, preview)
    return PrepResult(
        folder=folder,
        dataset=dataset,
        segmenter=settings.segmenter,
        images=len(samples),
        done=len(todo) - len(failures),
        kept=len(samples) - len(todo),
        redone=len(redone - failures.keys()),
        **_statistics(store, finished),
        seconds=time.perf_counter() - start,
        failures=list(failures.values()),
        previews=previews,
    )


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


def _open_store(folder: Path, dataset: Dataset, settings: MaskSettings) -> MaskStore:
    """The folder for the masks, refused where it would mix with the dataset or with another one's masks."""
    own = {file.parent.resolve() for sample in dataset.samples for file in (sample.image, sample.annotation) if file}
    if taken := next((place for place in own if folder.resolve().is_relative_to(place)), None):
        raise UsageError(f"{folder} is inside the dataset's own folder {taken}: choose another --out.")
    identity = {
        "root": str(dataset.root.resolve()),
        "format": dataset.format,
        "fingerprint": dataset.fingerprint(),
    }
    if (folder / MANIFEST).exists():
        old = MaskStore.open(folder).manifest.get("dataset", {})
        if identity["root"] != old.get("root") and identity["fingerprint"] != old.get("fingerprint"):
            raise UsageError(
                f"{folder} holds masks of another dataset ({old.get('root')}): choose another --out or delete it."
            )
    content = {"crowdseg": crowdseg.__version__, "segmenter": settings.segmenter, "settings": asdict(settings)}
    return MaskStore.create(folder, {**content, "dataset": identity})


def _prepare(
    samples: list[Sample], store: MaskStore, worker: _Worker, workers: int | None
) -> Iterator[tuple[Sample, str | None]]:
    """Each sample as it is finished, with what went wrong."""
    if workers is None:  # a SAM fills a GPU, or a CPU's memory, alone
        workers = 1 if worker.settings.segmenter == "sam" else os.cpu_count() or 1
    workers = min(workers, len(samples))
    if workers <= 1:
        for sample in samples:
            yield sample, worker.prepare(sample, store)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    # spawn: a fork of a process that has started torch's threads can hang
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (threads, worker.settings, worker.checkpoint)
    )
    try:
        futures: dict[Future[str | None], Sample] = {
            pool.submit(_prepare_in_worker, sample, store): sample for sample in samples
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise CrowdsegError(
            "A worker process died, perhaps for lack of memory. What was finished is kept: "
            "run again with fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """Does one image after another; a bad one is reported, not raised."""

    def __init__(self, settings: MaskSettings, checkpoint: Path | None) -> None:
        self.settings, self.checkpoint = settings, checkpoint
        self.segmenter = make_segmenter(settings, checkpoint)

    def prepare(self, sample: Sample, store: MaskStore) -> str | None:
        """Make and keep the masks; returns what went wrong."""
        try:
            check_memory(sample)
            image = read_image(sample.image)
            if image.shape[:2] != tuple(sample.size):
                return f"{sample.image} changed while it was in use: run again."
            assert sample.points is not None
            store.write(sample, *masks_from_points(image, sample.points, self.segmenter, self.settings))
        except CrowdsegError as error:
            return str(error)
        except Exception as error:  # whatever one image provokes, the others go on
            return f"{sample.image} failed ({type(error).__name__}: {error})."
        return None


_worker: _Worker | None = None  # of this process


def _start_worker(threads: int, *arguments: Any) -> None:
    global _worker
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, images in progress are finished
    _worker = _Worker(*arguments)


def _prepare_in_worker(sample: Sample, store: MaskStore) -> str | None:
    assert _worker is not None
    return _worker.prepare(sample, store)


def _statistics(store: MaskStore, samples: list[Sample]) -> dict[str, Any]:
    records = [record for sample in samples for record in store.records(sample)]
    return {
        "people": len(records),
        "sources": dict(Counter(record.source for record in records).most_common()),
        "median_area": float(np.median([record.area for record in records])) if records else 0.0,
        "mean_leakage": float(np.mean([record.leakage for record in records])) if records else 0.0,
    }


def _previews(store: MaskStore, samples: list[Sample], number: int) -> list[Path]:
    """Contact sheets of ``number`` images spread over the dataset."""
    if number <= 0 or not samples:
        return []
    from crowdseg.report.contact_sheet import write_contact_sheets

    spread = np.unique(np.linspace(0, len(samples) - 1, min(number, len(samples))).round().astype(int))
    return write_contact_sheets(store.folder / "previews", store, [samples[index] for index in spread])
