"""What a reader gives: a :class:`Dataset` of samples and of the defects met while reading."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crowdseg.data.images import image_size
from crowdseg.data.layout import natural
from crowdseg.errors import DataError
from crowdseg.structures import RLE, Points, Sample, Size

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Defect:
    """Something wrong with one file. ``broken``: data is lost or unusable; else a warning, it was put right."""

    file: Path
    message: str
    broken: bool = True


@dataclass
class Dataset:
    """A folder of images with their annotation, as one reader understood it.

    Attributes:
        root: the folder that the samples' keys are relative to.
        format: the format's name, a key of :data:`crowdseg.data.DATASETS` or a variant of it.
        samples: in the natural order of their keys (``IMG_2`` before ``IMG_10``).
        defects: in the order met.
    """

    root: Path
    format: str
    samples: list[Sample]
    defects: list[Defect] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)

    def split(self, name: str) -> list[Sample]:
        """The samples of the split ``"train"``, ``"val"`` or ``"test"``; empty where the dataset has none."""
        return [sample for sample in self.samples if sample.split == name]

    @property
    def splits(self) -> dict[str, list[Sample]]:
        """The splits that have samples, in the order train, val, test."""
        return {name: samples for name in SPLITS if (samples := self.split(name))}

    @property
    def broken(self) -> list[Defect]:
        """The defects that lose data."""
        return [defect for defect in self.defects if defect.broken]

    def by_key(self) -> dict[str, Sample]:
        return {sample.key: sample for sample in self.samples}

    def fingerprint(self) -> str:
        """16 hex digits over keys, sizes and points: equal for equal data, wherever the folder lies."""
        digest = hashlib.sha256()
        for sample in sorted(self.samples, key=lambda sample: sample.key):
            count = -1 if sample.points is None else len(sample.points)
            digest.update(f"{sample.key}\0{sample.size}\0{count}\0".encode())
            if sample.points is not None:
                digest.update(np.ascontiguousarray(sample.points, "<f8").tobytes())
        return digest.hexdigest()[:16]


@dataclass
class Annotation:
    """What an annotation file says of one image; fields as in :class:`crowdseg.structures.Sample`."""

    points: NDArray
    boxes: NDArray | None = None
    masks: list[RLE] | None = None
    ignore: list[RLE] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """One format. ``matches`` is quick and does not raise; ``read`` is called only where it said yes.

    Attributes:
        layout: what the folder holds, for the message that nothing was recognised.
        matches: whether this folder (or file) is a dataset of this format.
        read: reads it; single bad files become defects, they do not raise.
    """

    layout: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Dataset]


ReadAnnotation = Callable[[Path, Size], Annotation]


class Collector:
    """Collects the samples of one dataset; what is wrong with a file becomes a :class:`Defect` and the rest goes on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.samples: list[Sample] = []
        self.defects: list[Defect] = []
        self._keys: set[str] = set()

    def defect(self, file: Path, message: str, *, broken: bool = True) -> None:
        self.defects.append(Defect(file, message, broken))

    def add(
        self, image: Path, split: str, read: Callable[[Size], Annotation] | None, annotation: Path | None = None
    ) -> Sample | None:
        """Add one image. ``read(size)`` gives its annotation; None where it has none, which is the caller's to report.

        ``annotation`` is the image's own annotation file, for messages. Returns None where the image is unreadable.
        """
        try:
            size = image_size(image)
        except DataError as error:
            self.defect(image, str(error))
            return None
        sample = Sample(self._key(image), image, size, None, split, annotation=annotation)
        if read is not None:
            try:
                self._annotate(sample, read(size))
            except DataError as error:
                self.defect(annotation or image, str(error))
        self.samples.append(sample)
        return sample

    def add_file(
        self, image: Path, split: str, annotation: Path | None, read: ReadAnnotation, *, required: bool = True
    ) -> None:
        """Add one image annotated by a file of its own. Without one the sample has no points, a defect if required."""
        if annotation is None:
            if required:
                self.defect(image, "no annotation for this image")
            self.add(image, split, None)
        else:
            self.add(image, split, lambda size: read(annotation, size), annotation)

    def add_pairs(self, images: list[Path], split: str, annotations: dict[str, Path], read: ReadAnnotation) -> None:
        """Add images annotated by the file under their stem; images and annotations without the other are defects."""
        left = dict(annotations)
        for image in images:
            self.add_file(image, split, left.pop(image.stem, None), read)
        for annotation in left.values():
            self.defect(annotation, "the image of this annotation is not there")

    def dataset(self, format: str) -> Dataset:
        self.samples.sort(key=lambda sample: (natural(sample.key), sample.key))
        return Dataset(self.root, format, self.samples, self.defects)

    def _key(self, image: Path) -> str:
        relative = image.relative_to(self.root)
        key = relative.with_suffix("").as_posix()
        if key in self._keys:  # a.jpg beside a.png
            key = relative.as_posix()
        self._keys.add(key)
        return key

    def _annotate(self, sample: Sample, found: Annotation) -> None:
        file = sample.annotation or sample.image
        sample.points, kept, notes = clean_points(found.points, sample.size, file)
        sample.boxes = None if found.boxes is None else np.asarray(found.boxes, np.float64).reshape(-1, 4)[kept]
        sample.masks = None if found.masks is None else [found.masks[i] for i in kept]
        sample.ignore = found.ignore
        for note in notes:
            self.defect(file, note, broken=False)


def clean_points(points: NDArray, size: Size, file: Path) -> tuple[Points, NDArray[np.intp], list[str]]:
    """Points ``(N, 2)`` as annotated -> those of the image, their indices, and notes on what was odd.

    Points outside by at most 1 px (of pixel centres, so also those of 1-based files) are moved onto the border, further
    ones are dropped. Exact duplicates are kept.

    Raises:
        DataError: a coordinate is NaN or infinite, or the array has no two columns; names ``file``.
    """
    try:
        points = np.asarray(points, np.float64)
        points = points.reshape(-1, 2) if points.size == 0 or points.ndim != 2 else points[:, :2]
    except (TypeError, ValueError) as error:
        raise DataError(f"{file} does not hold (x, y) points ({error}).") from error
    if points.shape[1] != 2:
        raise DataError(f"{file} holds {points.shape[1]} number per point, expected x and y.")
    if not np.isfinite(points).all():
        number = int((~np.isfinite(points).all(axis=1)).sum())
        raise DataError(
            f"{file} holds {_points(number)} with a coordinate that is no finite number. Correct or remove it."
        )
    corner = np.array([size[1] - 1, size[0] - 1], np.float64)
    outside = np.maximum(-points, points - corner).max(axis=1, initial=0)
    kept = np.flatnonzero(outside <= 1)
    cleaned = np.clip(points[kept], 0, corner)
    notes = []
    if len(kept) < len(points):
        notes.append(f"{_points(len(points) - len(kept))} outside the image, dropped")
    if duplicates := len(cleaned) - len(np.unique(cleaned, axis=0)):
        notes.append(f"{_points(duplicates)} exactly on another one, kept")
    return cleaned, kept, notes


def _points(number: int) -> str:
    return f"{number} point" if number == 1 else f"{number} points"
