"""Numbers that describe a dataset at a glance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crowdseg.data.base import Dataset, Defect
from crowdseg.data.images import read_image
from crowdseg.errors import DataError


@dataclass(frozen=True)
class SplitSummary:
    """One split. ``annotated`` of the ``images`` have points; ``masked`` have masks too.

    ``lowest``, ``median`` and ``highest`` are points per annotated image, None where none is annotated.
    """

    split: str
    images: int
    annotated: int
    masked: int
    points: int
    lowest: int | None
    median: float | None
    highest: int | None


def summarise(dataset: Dataset) -> list[SplitSummary]:
    """One summary per split that has images, in the order train, val, test."""
    summaries = []
    for split, samples in dataset.splits.items():
        counts = [sample.count for sample in samples if sample.points is not None]
        spread = (min(counts), float(np.median(counts)), max(counts)) if counts else (None, None, None)
        masked = sum(sample.masks is not None for sample in samples)
        summaries.append(SplitSummary(split, len(samples), len(counts), masked, sum(counts), *spread))
    return summaries


def damaged_images(dataset: Dataset) -> Iterator[Defect | None]:
    """Decode every image, which loading does not: for each the defect found, or None."""
    for sample in dataset.samples:
        try:
            read_image(sample.image)
            yield None
        except DataError as error:
            yield Defect(sample.image, str(error))
