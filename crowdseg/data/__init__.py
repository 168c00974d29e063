"""Datasets: :func:`load_dataset` recognises the official downloads and reads them into :class:`~.base.Dataset`."""

from __future__ import annotations

import os
from pathlib import Path

from crowdseg.data import coco, cvat, jhu, labelmaps, labelme, labelstudio, nwpu, pointscsv, shanghaitech, ucf
from crowdseg.data.base import Dataset, Defect, Reader
from crowdseg.data.images import IMAGE_SUFFIXES, image_size, read_image
from crowdseg.data.inner import head_point, inner_point
from crowdseg.data.layout import folders_of
from crowdseg.errors import DataError, UsageError

__all__ = [
    "DATASETS",
    "IMAGE_SUFFIXES",
    "Dataset",
    "Defect",
    "head_point",
    "image_size",
    "inner_point",
    "load_dataset",
    "read_image",
]

# In this order a folder is offered to the readers: those with the most peculiar layout first.
DATASETS: dict[str, Reader] = {
    "shanghaitech": shanghaitech.READER,
    "ucf": ucf.READER,
    "jhu": jhu.READER,
    "nwpu": nwpu.READER,
    "cvat": cvat.READER,
    "labelstudio": labelstudio.READER,
    "labelme": labelme.READER,
    "coco": coco.READER,
    "points.csv": pointscsv.READER,
    "labelmaps": labelmaps.READER,
}

_DOWN, _UP = 3, 2  # folders that may lie between the path that was given and the dataset


def load_dataset(path: Path | str) -> Dataset:
    """Read the dataset at ``path``, whatever its format.

    ``path`` may also be a folder around the dataset, or a part of it: one split, or one of its folders of images.

    Raises:
        UsageError: nothing is there, nothing was recognised, or more than one dataset was found below ``path``.
        DataError: a dataset was recognised but not one of its images can be read.
    """
    path = Path(os.path.normpath(Path(path).absolute()))  # a folder given as `.` has a name that tells its split
    if not path.exists():
        raise UsageError(f"{path} is not there.")
    attempts = (read(path) for read in (_read_at, _read_below, _read_around))
    dataset = next((found for found in attempts if found is not None), None)
    if dataset is None:
        layouts = "\n".join(f"  - {reader.layout}" for reader in DATASETS.values())
        raise UsageError(f"No dataset recognised in {path}. Looked for:\n{layouts}")
    if not dataset.samples:
        reason = f" ({dataset.defects[0].message})" if dataset.defects else ""
        raise DataError(f"{path} looks like {dataset.format} but not one of its images can be read{reason}.")
    return dataset


def _reader_of(path: Path) -> Reader | None:
    return next((reader for reader in DATASETS.values() if reader.matches(path)), None)


def _read_at(path: Path) -> Dataset | None:
    reader = _reader_of(path)
    return reader.read(path) if reader else None


def _read_below(path: Path) -> Dataset | None:
    """The one dataset at the least depth below ``path`` that has any."""
    folders = [path]
    for _ in range(_DOWN):
        folders = [child for folder in folders for child in folders_of(folder)]
        found = [(folder, reader) for folder in folders if (reader := _reader_of(folder))]
        if len(found) > 1:
            names = ", ".join(str(folder) for folder, _ in found)
            raise UsageError(f"{path} holds {len(found)} datasets: {names}. Choose one of them.")
        if found:
            return found[0][1].read(found[0][0])
    return None


def _read_around(path: Path) -> Dataset | None:
    """The part below ``path`` of a dataset whose root is one of the folders around it."""
    for folder in path.parents[:_UP] if path.is_dir() else ():
        reader = _reader_of(folder)
        if reader is None:
            continue
        dataset = reader.read(folder)
        dataset.samples = [sample for sample in dataset.samples if sample.image.is_relative_to(path)]
        kept = {sample.annotation for sample in dataset.samples}
        dataset.defects = [each for each in dataset.defects if each.file in kept or each.file.is_relative_to(path)]
        return dataset if dataset.samples else None
    return None
