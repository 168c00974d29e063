"""JHU-CROWD++: ``train|val|test`` with ``images/``, ``gt/NAME.txt`` and ``image_labels.txt``.

A line of ``gt`` is ``x y w h occlusion blur`` with x, y the head's centre; an empty file means nobody.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crowdseg.data.base import Annotation, Collector, Dataset, Reader
from crowdseg.data.layout import files_of, images_of, parts_of
from crowdseg.errors import DataError
from crowdseg.structures import Size


def matches(root: Path) -> bool:
    return bool(parts_of(root, _is_part))


def read(root: Path) -> Dataset:
    collector = Collector(root)
    for folder, split in parts_of(root, _is_part):
        annotations = {path.stem: path for path in files_of(folder / "gt", {".txt"})}
        collector.add_pairs(images_of(folder / "images"), split, annotations, _read)
        _compare_counts(collector, folder)
    return collector.dataset("JHU-CROWD++")


def _is_part(folder: Path) -> bool:
    return (folder / "images").is_dir() and bool(files_of(folder / "gt", {".txt"}))


def _read(path: Path, size: Size) -> Annotation:
    rows = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if line.strip():
                rows.append([float(value) for value in line.replace(",", " ").split()[:4]])
                if len(rows[-1]) < 4:
                    raise ValueError(f"line {number} has fewer than four numbers")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a list of `x y w h occlusion blur` ({error}).") from error
    table = np.array(rows, np.float64).reshape(-1, 4)
    centre, half = table[:, :2], table[:, 2:] / 2
    return Annotation(centre, np.concatenate([centre - half, centre + half], axis=1))


def _compare_counts(collector: Collector, folder: Path) -> None:
    """``image_labels.txt`` repeats the count (``NAME,count,scene,...``): a difference hints at a damaged file."""
    file = folder / "image_labels.txt"
    if not file.is_file():
        return
    annotated = {each.image.stem: each for each in collector.samples if each.points is not None}
    for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        name, count, *_ = [*line.split(","), "", ""]
        sample = annotated.get(name.strip())
        if sample and sample.image.parent.parent == folder and count.strip().isdigit() and int(count) != sample.count:
            note = f"{sample.count} points, {int(count)} according to image_labels.txt"
            collector.defect(sample.annotation or sample.image, note, broken=False)


READER = Reader("JHU-CROWD++: train/, val/ and test/ with images/ and gt/*.txt", matches, read)
