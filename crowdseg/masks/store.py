"""The folder of prepared masks.

``manifest.json`` (settings, dataset), ``labels/<key>.png`` (label n + 1 = n-th annotated point), ``records/<key>.json``
(one record per person). An image is finished when its record, written last, says so for the same points and settings.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from crowdseg import files
from crowdseg.data import Dataset
from crowdseg.errors import DataError, UsageError, WriteError
from crowdseg.structures import LabelMap, Sample

MANIFEST = "manifest.json"
IMPORTED = "imported"  # in place of the settings where masks came from elsewhere: no change of settings undoes them


@dataclass(frozen=True)
class Record:
    """How one person's mask came about.

    Attributes:
        index: of the point, 0-based: the mask's label is ``index + 1``.
        point: (x, y) in pixels. radius: of its exclusion circle, in pixels. area: of the mask, in pixels.
        source: ``"sam"``, ``"superpixel"`` or ``"disc"``; ``"imported"`` where another tool or a hand drew the mask.
        score: predicted IoU in [0, 1] where the segmenter gives one.
        leakage: share of the chosen candidate that lay outside the circle, in [0, 1].
    """

    index: int
    point: tuple[float, float]
    source: str
    score: float | None
    leakage: float
    area: int
    radius: float


def identity(dataset: Dataset) -> dict[str, str]:
    """By what a manifest knows the dataset again."""
    root, fingerprint = str(dataset.root.resolve()), dataset.fingerprint()
    return {"root": root, "format": dataset.format, "fingerprint": fingerprint}


@dataclass(frozen=True)
class MaskStore:
    """A folder of prepared masks; ``manifest`` says how they were made and of what."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str) -> MaskStore:
        """An existing folder.

        Raises:
            UsageError: it is no folder of prepared masks. DataError: its manifest is damaged.
        """
        file = Path(folder) / MANIFEST
        if not file.is_file():
            raise UsageError(f"{folder} holds no prepared masks (no {MANIFEST}): make some with `crowdseg prep-masks`.")
        manifest = files.read_json(file)
        try:
            Path(manifest["dataset"]["root"]), manifest["settings"].items()
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{file} does not say of what the masks are, and how they were made. Delete it.") from error
        return cls(Path(folder), manifest)

    @classmethod
    def create(cls, folder: Path | str, manifest: dict[str, Any]) -> MaskStore:
        """The folder with this manifest; what an earlier run finished there is kept."""
        files.write_json(Path(folder) / MANIFEST, manifest)
        return cls(Path(folder), manifest)

    def note(self, dataset: Dataset) -> None:
        """For train-seg to find dataset and masks by itself; a current folder that is read-only does without."""
        last = {"data": str(dataset.root.resolve()), "masks": str(self.folder.resolve())}
        with suppress(WriteError):
            files.write_json(files.RUNS / "last.json", last)

    def check_is_of(self, dataset: Dataset) -> None:
        """UsageError where these are masks of another dataset: neither of the same folder nor of the same content."""
        same = self.dataset_root.resolve() == dataset.root.resolve()
        if not same and self.manifest["dataset"].get("fingerprint") != dataset.fingerprint():
            raise UsageError(
                f"{self.folder} holds masks of another dataset, {self.dataset_root}: choose another --out or delete it."
            )

    @property
    def dataset_root(self) -> Path:
        return Path(self.manifest["dataset"]["root"])

    @property
    def settings_hash(self) -> str:
        return _hash(json.dumps(self.manifest["settings"], sort_keys=True).encode())

    def label_file(self, sample: Sample) -> Path:
        return self.folder / "labels" / f"{sample.key}.png"

    def record_file(self, sample: Sample) -> Path:
        return self.folder / "records" / f"{sample.key}.json"

    def has(self, sample: Sample) -> bool:
        """Whether the image was finished, under whatever settings."""
        return self.record_file(sample).is_file() and self.label_file(sample).is_file()

    def is_current(self, sample: Sample) -> bool:
        """Whether the image was finished with these settings, or imported, for these points; not if it is damaged."""
        try:
            return self.current_records(sample) is not None
        except DataError:
            return False

    def current_records(self, sample: Sample) -> list[Record] | None:
        """As :meth:`records`; None where the image was not finished with these settings, or imported, for these points.

        Raises:
            DataError: a file of the image is damaged.
        """
        if not self.has(sample):
            return None
        content = self._record_content(sample)
        if content["settings"] not in (self.settings_hash, IMPORTED) or content["points"] != _points_hash(sample):
            return None
        self._check_size(sample, files.label_map_size(self.label_file(sample)))
        return self._parsed(sample, content)

    def write(self, sample: Sample, labels: LabelMap, records: list[Record], *, imported: bool = False) -> None:
        """Keep an image's masks. The record comes last: without it the image does not count as finished.

        ``imported`` masks stay as they are when the settings change; only other points make them outdated.

        Raises:
            WriteError: no space or no permission; nothing is left of the image then.
        """
        people = [asdict(record) for record in records]
        settings = IMPORTED if imported else self.settings_hash
        content = {"settings": settings, "points": _points_hash(sample), "people": people}
        try:
            files.remove(self.record_file(sample))
            files.write_label_map(self.label_file(sample), labels)
            files.write_json(self.record_file(sample), content, indent=None)
        except WriteError:
            with suppress(OSError):
                self.label_file(sample).unlink()
            raise

    def labels(self, sample: Sample) -> LabelMap:
        """``(H, W)`` label map.

        Raises:
            DataError: it is not there, damaged, or of another size than the image.
        """
        try:
            labels = files.read_label_map(self.label_file(sample))
        except DataError as error:
            raise DataError(f"{error} Delete it and run prep-masks again.") from error
        self._check_size(sample, labels.shape)
        return labels

    def records(self, sample: Sample) -> list[Record]:
        """One record per person, in point order; none where the masks' maker left none.

        Raises:
            DataError: they are not there, or damaged.
        """
        return self._parsed(sample, self._record_content(sample))

    def _check_size(self, sample: Sample, size: tuple[int, ...]) -> None:
        if size != tuple(sample.size):
            raise DataError(
                f"{self.label_file(sample)} is {size[1]} x {size[0]} pixels, but {sample.image} is "
                f"{sample.size[1]} x {sample.size[0]}; prep-masks makes it anew."
            )

    def _record_content(self, sample: Sample) -> dict[str, Any]:
        try:
            content = files.read_json(self.record_file(sample))
        except DataError as error:
            raise self._no_records(sample) from error
        if not isinstance(content, dict) or not {"settings", "points", "people"} <= content.keys():
            raise self._no_records(sample)
        return content

    def _parsed(self, sample: Sample, content: dict[str, Any]) -> list[Record]:
        try:
            return _records(content["people"], sample.size)
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise self._no_records(sample) from error

    def _no_records(self, sample: Sample) -> DataError:
        return DataError(f"{self.record_file(sample)} does not hold records of masks; prep-masks makes them anew.")


_NUMBER: set[type] = {int, float}
_TYPES: dict[str, set[type]] = {
    "index": {int},
    "point": {list},
    "source": {str},
    "score": {*_NUMBER, type(None)},
    "leakage": _NUMBER,
    "area": {int},
    "radius": _NUMBER,
}  # in the order of Record's fields


def _records(people: Any, size: tuple[int, int]) -> list[Record]:
    """What JSON gave as records, checked column by column: a dataset has hundreds of thousands.

    Raises:
        KeyError, OverflowError, TypeError, ValueError: it is something else.
    """
    if people == []:
        return []
    columns = dict(zip(_TYPES, zip(*map(itemgetter(*_TYPES), people), strict=True), strict=True))
    points = np.array(columns["point"], np.float64)
    numbers = np.array([columns["leakage"], columns["area"], columns["radius"]], np.float64)
    valid = (
        all(set(map(type, column)) <= _TYPES[name] for name, column in columns.items())
        and columns["index"] == tuple(range(len(people)))
        and points.shape == (len(people), 2)
        and bool(((points >= 0) & (points < size[::-1])).all() and np.isfinite(numbers).all())
    )
    if not valid:
        raise ValueError("no records")
    columns["point"] = tuple(map(tuple, columns["point"]))
    return list(map(Record, *columns.values()))


def _points_hash(sample: Sample) -> str:
    points = np.zeros((0, 2)) if sample.points is None else np.ascontiguousarray(sample.points, np.float64)
    return _hash(points.tobytes() + repr(tuple(sample.size)).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
