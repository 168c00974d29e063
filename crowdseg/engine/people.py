"""Collects the people that a predictions file lists, image by image."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from crowdseg.engine.image_names import ImageNames
from crowdseg.errors import DataError
from crowdseg.structures import RLE, Prediction, Sample


class People:
    """What was read so far.

    Attributes:
        file: the file being read, for messages.
        wanted: the samples to score.
        listed: keys of wanted samples that the file mentions.
        unknown: names that are not in the dataset.
        totals: key -> a count that is not the number of people listed.
        located: whether people have positions.
    """

    def __init__(self, file: Path, names: ImageNames, wanted: list[Sample]) -> None:
        self.file, self.names, self.wanted = file, names, wanted
        self.listed: set[str] = set()
        self.unknown: list[str] = []
        self.totals: dict[str, float] = {}
        self.located = True
        self._people: dict[str, list[tuple[tuple[float, float], float]]] = defaultdict(list)
        self._masks: dict[str, list[RLE]] = defaultdict(list)
        self._found: dict[Any, str | None] = {}

    def find(self, name: Any) -> str | None:
        """The key of the wanted sample of this name, None for other samples and (remembered) unknown names."""
        if name not in self._found:
            key = self.names.find(name)
            if key is None:
                self.unknown.append(str(name))
            self._found[name] = self.listing(key)
        return self._found[name]

    def listing(self, key: str | None) -> str | None:
        """Note that the file mentions this sample; None where it is not wanted."""
        if key not in self.names.wanted:
            return None
        self.listed.add(key)
        return key

    def add(self, key: str | None, point: tuple[float, float], score: float = 1.0, mask: RLE | None = None) -> None:
        """One person (x, y); none where ``key`` is None."""
        if key is None:
            return
        self._people[key].append((point, score))
        if mask is not None:
            self._masks[key].append(mask)

    @property
    def masked(self) -> bool:
        return bool(self._masks)

    def prediction(self, sample: Sample) -> Prediction:
        """All that was listed for this sample."""
        people = self._people.get(sample.key, [])
        return Prediction(
            size=sample.size,
            points=np.array([point for point, _ in people], np.float64).reshape(-1, 2),
            scores=np.array([score for _, score in people], np.float32),
            rles=self._masks.get(sample.key, []) if self.masked else None,
            key=sample.key,
            image=sample.image,
            total=self.totals.get(sample.key),
        )

    def error(self, where: str, what: str) -> DataError:
        """``where`` is the place in the file, ``what`` a verb with the rest."""
        return DataError(f"{self.file}, {where}, {what}.")


def number(value: Any, people: People, where: str) -> float:
    """A finite number.

    Raises:
        DataError: it is none; names the file and the place in it.
    """
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise people.error(where, f"has {value!r} where a finite number is expected")
    return result


def count(value: Any, people: People, where: str) -> float:
    """A number of people, at least 0. Raises as :func:`number`."""
    result = number(value, people, where)
    if result < 0:
        raise people.error(where, f"has a count of {value!r}, which is less than nobody")
    return result


def score(value: Any, people: People, where: str) -> float:
    """A score in [0, 1], which is what the least score is compared with. Raises as :func:`number`."""
    result = number(value, people, where)
    if not 0 <= result <= 1:
        raise people.error(where, f"has a score of {value!r} where one from 0 to 1 is expected, such as a probability")
    return result
