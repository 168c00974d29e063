"""The folder of prepared masks.

``manifest.json`` (settings, dataset), ``labels/<key>.png`` (label n + 1 = n-th annotated point), ``records/<key>.json``
(one record per person). An image is finished when its record, written last, says so for the same points and settings.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crowdseg import files
from crowdseg.errors import DataError, UsageError
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
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise UsageError(f"{folder} holds no prepared masks (no {MANIFEST}): make some with `crowdseg prep-masks`.")
        return cls(folder, files.read_json(folder / MANIFEST))

    @classmethod
    def create(cls, folder: Path | str, manifest: dict[str, Any]) -> MaskStore:
        """The folder with this manifest; what an earlier run finished there is kept."""
        files.write_json(Path(folder) / MANIFEST, manifest)
        return cls(Path(folder), manifest)

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
        """Whether the image was finished with these settings, or imported, for these points."""
        if not self.has(sample):
            return False
        try:
            record = files.read_json(self.record_file(sample))
            return record["settings"] in (self.settings_hash, IMPORTED) and record["points"] == _points_hash(sample)
        except (DataError, KeyError, TypeError):
            return False

    def write(self, sample: Sample, labels: LabelMap, records: list[Record], *, imported: bool = False) -> None:
        """Keep an image's masks. The record comes last: without it the image does not count as finished.

        ``imported`` masks stay as they are when the settings change; only other points make them outdated.
        """
        self.record_file(sample).unlink(missing_ok=True)
        files.write_label_map(self.label_file(sample), labels)
        people = [asdict(record) for record in records]
        settings = IMPORTED if imported else self.settings_hash
        content = {"settings": settings, "points": _points_hash(sample), "people": people}
        files.write_json(self.record_file(sample), content, indent=None)

    def labels(self, sample: Sample) -> LabelMap:
        """``(H, W)`` label map.

        Raises:
            DataError: it is not there, damaged, or of another size than the image.
        """
        labels = files.read_label_map(self.label_file(sample))
        if labels.shape != tuple(sample.size):
            raise DataError(
                f"{self.label_file(sample)} is {labels.shape[1]} x {labels.shape[0]} pixels, but {sample.image} is "
                f"{sample.size[1]} x {sample.size[0]}: delete it and run prep-masks again."
            )
        return labels

    def records(self, sample: Sample) -> list[Record]:
        """One record per person, in point order."""
        people = files.read_json(self.record_file(sample))["people"]
        return [Record(**{**person, "point": tuple(person["point"])}) for person in people]


def _points_hash(sample: Sample) -> str:
    points = np.zeros((0, 2)) if sample.points is None else np.ascontiguousarray(sample.points, np.float64)
    return _hash(points.tobytes() + repr(tuple(sample.size)).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
