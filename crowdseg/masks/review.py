"""Which prepared masks to look at first: every person judged by what its record says, the most doubtful ones chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crowdseg.data import Dataset, load_dataset
from crowdseg.errors import DataError, UsageError
from crowdseg.masks.drawn import records_of
from crowdseg.masks.store import MaskStore, Record
from crowdseg.structures import Sample

Tick = Callable[[int, int], None]  # images done, of how many

REASONS = ("fallback", "score", "leakage", "size")


@dataclass(frozen=True)
class DoubtfulMask:
    """One person's mask and why to doubt it.

    Attributes:
        sample: the image. record: how the mask came about.
        share: of the exclusion circle's area that the mask covers.
        doubts: by reason, in [0, 1], in the order of :data:`REASONS`: ``fallback`` is 1 where the segmenter had no mask
            to give and a superpixel or a disc was taken; ``score`` is 1 - predicted IoU; ``leakage`` as recorded;
            ``size`` is 1 - min(q, 1 / q), q = share / median share of the folder.
    """

    sample: Sample
    record: Record
    share: float
    doubts: dict[str, float]

    @property
    def doubt(self) -> float:
        """The greatest of the doubts, in [0, 1]."""
        return max(self.doubts.values())

    @property
    def reason(self) -> str:
        """The greatest doubt's name, the first of equals."""
        return max(self.doubts, key=self.doubts.__getitem__)


@dataclass(frozen=True)
class MaskReview:
    """What :func:`review_masks` found.

    Attributes:
        store: the folder looked at. dataset: what the masks are of.
        segmenter: as the folder's manifest says, ``"unknown"`` where it does not.
        images: with masks. people: on them. sources: people by where their mask came from, the most frequent first.
        values: of all people, each ``(N,)`` float64: ``score`` (NaN where there is none), ``leakage``, ``share`` of the
            circle, and ``area`` in pixels.
        worst: at most as many as were asked for, the most doubtful first.
        failures: record files that could not be read, with the reason.
    """

    store: MaskStore
    dataset: Dataset
    segmenter: str
    images: int
    people: int
    sources: dict[str, int]
    values: dict[str, NDArray[np.float64]]
    worst: list[DoubtfulMask]
    failures: list[tuple[Path, str]] = field(default_factory=list)


def review_masks(
    folder: Path | str, data: Path | str | Dataset | None = None, *, most: int = 400, progress: Tick | None = None
) -> MaskReview:
    """Judge every person's mask in a folder of prepared masks.

    Args:
        folder: as :func:`crowdseg.prep_masks` wrote it.
        data: the dataset, where it no longer lies where the masks were made from it.
        most: people in ``worst``.
        progress: told how many images' records are read, of how many.

    Raises:
        UsageError: no such folder or dataset, or it holds no record of anyone.
    """
    store = MaskStore.open(folder)
    dataset = data if isinstance(data, Dataset) else load_dataset(_root(store, data))
    samples = [sample for sample in dataset.samples if store.has(sample)]
    people, failures = _read(store, samples, progress)
    if not people and not failures:
        raise UsageError(
            f"{folder} holds no record of anyone on the images of {dataset.root}: "
            "run `crowdseg prep-masks`, or name the masks' dataset with --data."
        )
    segmenter = str(store.manifest.get("segmenter", "unknown"))
    values = _values([record for _, record in people])
    doubts = _doubts([_is_fallback(record.source, segmenter) for _, record in people], values)
    return MaskReview(
        store=store,
        dataset=dataset,
        segmenter=segmenter,
        images=len(samples) - len(failures),
        people=len(people),
        sources=dict(Counter(record.source for _, record in people).most_common()),
        values=values,
        worst=[
            DoubtfulMask(*people[i], float(values["share"][i]), dict(zip(REASONS, doubts[i].tolist(), strict=True)))
            for i in _worst(doubts, most)
        ],
        failures=failures,
    )


def _root(store: MaskStore, data: Path | str | None) -> Path:
    root = Path(data) if data is not None else store.dataset_root
    if not root.exists():
        raise UsageError(f"{root}, the dataset of the masks in {store.folder}, is not there: name it with --data.")
    return root


def _read(
    store: MaskStore, samples: list[Sample], progress: Tick | None
) -> tuple[list[tuple[Sample, Record]], list[tuple[Path, str]]]:
    """Every person with its image, and the record files that could not be read."""
    people: list[tuple[Sample, Record]] = []
    failures: list[tuple[Path, str]] = []
    for number, sample in enumerate(samples, 1):
        try:
            people += [(sample, record) for record in records_of(store, sample)]
        except DataError as error:
            failures.append((store.record_file(sample), str(error)))
        if progress is not None:
            progress(number, len(samples))
    return people, failures


def _is_fallback(source: str, segmenter: str) -> bool:
    return source == "disc" or (source == "superpixel" and segmenter != "superpixel")


def _values(records: list[Record]) -> dict[str, NDArray[np.float64]]:
    area = np.array([record.area for record in records], np.float64)
    radius = np.array([record.radius for record in records], np.float64)
    return {
        "score": np.array([np.nan if record.score is None else record.score for record in records], np.float64),
        "leakage": np.array([record.leakage for record in records], np.float64),
        "share": area / (np.pi * np.maximum(radius, 1.0) ** 2),
        "area": area,
    }


def _doubts(fallback: list[bool], values: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """``(N, reasons)`` in [0, 1]."""
    share = values["share"]
    usual = max(float(np.median(share)) if len(share) else 0.0, 1e-9)
    ratio = np.maximum(share / usual, 1e-9)
    columns = [
        np.asarray(fallback, np.float64),
        1 - np.nan_to_num(values["score"], nan=1.0),
        values["leakage"],
        1 - np.minimum(ratio, 1 / ratio),
    ]
    return np.clip(np.stack(columns, axis=1), 0, 1)


def _worst(doubts: NDArray[np.float64], most: int) -> list[int]:
    """Who to look at, the most doubtful first: the reasons choose in turns, so that a frequent one hides no other."""
    rankings = [order[column[order] > 0] for column in doubts.T for order in [np.argsort(-column, kind="stable")]]
    turns = np.full((max(map(len, rankings), default=0), len(rankings)), -1)
    for reason, ranking in enumerate(rankings):
        turns[: len(ranking), reason] = ranking
    in_turn = turns[turns >= 0]
    _, first = np.unique(in_turn, return_index=True)
    chosen = in_turn[np.sort(first)][:most]
    return sorted(map(int, chosen), key=lambda i: (-doubts[i].max(), -doubts[i].sum(), i))
