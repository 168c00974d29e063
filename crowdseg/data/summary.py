"""Numbers that describe a dataset at a glance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowdseg.data.base import Dataset


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
