"""NWPU-Crowd: ``images/`` or ``images_part*/``, ``jsons/`` or ``mats/``, and ``train.txt``, ``val.txt``, ``test.txt``.

A line of a list file is ``id luminance scene``. An id that no list names is training data where it has an annotation,
else test data. Annotations hold head points and head boxes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crowdseg import files
from crowdseg.data.base import SPLITS, Annotation, Collector, Dataset, Reader
from crowdseg.data.layout import files_of, folders_of, images_of
from crowdseg.data.matlab import read_points_file
from crowdseg.errors import DataError
from crowdseg.structures import Size

_NAMED = 3  # missing images that one message lists


def matches(root: Path) -> bool:
    return bool(_image_folders(root)) and bool(_annotations(root))


def read(root: Path) -> Dataset:
    collector = Collector(root)
    annotations = _annotations(root)
    listed = {split: _listed(collector, root / f"{split}.txt") for split in SPLITS}
    split_of_id = {name: split for split, names in listed.items() for name in names}
    seen = set()
    for image in (image for folder in _image_folders(root) for image in images_of(folder)):
        split = split_of_id.get(image.stem, "train" if image.stem in annotations else "test")
        collector.add_file(image, split, annotations.get(image.stem), _read, required=split != "test")
        seen.add(image.stem)
    for name, annotation in annotations.items():
        if name not in seen:
            collector.defect(annotation, "the image of this annotation is not there")
    for split, names in listed.items():
        if missing := [name for name in names if name not in seen]:
            some = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
            collector.defect(root / f"{split}.txt", f"listed images that are not there ({len(missing)}): {some}")
    return collector.dataset("NWPU-Crowd")


def _image_folders(root: Path) -> list[Path]:
    return [folder for folder in folders_of(root) if folder.name == "images" or folder.name.startswith("images_part")]


def _annotations(root: Path) -> dict[str, Path]:
    """Image id -> annotation file, the JSON form first."""
    found: dict[str, Path] = {}
    for name, suffix in (("jsons", ".json"), ("mats", ".mat")):
        for path in files_of(root / name, {suffix}):
            found.setdefault(path.stem, path)
    return found


def _listed(collector: Collector, file: Path) -> list[str]:
    """The ids of a list file; none where there is no such file."""
    if not file.is_file():
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        collector.defect(file, f"not a readable list of image ids ({error})")
        return []
    return list(dict.fromkeys(line.split()[0].removesuffix(".jpg") for line in lines if line.strip()))


def _read(path: Path, size: Size) -> Annotation:
    if path.suffix.lower() == ".mat":
        return read_points_file(path)
    content = files.read_json(path)
    try:
        points = np.array(content["points"], np.float64).reshape(-1, 2)
        boxes = np.array(content.get("boxes", []), np.float64).reshape(-1, 4)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} does not hold `points` as pairs of x and y, and `boxes` of four numbers.") from error
    return Annotation(points, boxes if len(boxes) == len(points) else None)


READER = Reader("NWPU-Crowd: images/ or images_part*/, jsons/ or mats/, train.txt, val.txt, test.txt", matches, read)
