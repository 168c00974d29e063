"""Points that people set in an annotation tool: what the readers of CVAT, Label Studio and LabelMe have in common.

These tools measure from the outer corner of the first pixel; half a pixel is taken off, so that centres are integers.
Of several labels ``head`` and ``person`` are taken where there are any, else all; points without label always are.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from crowdseg.data.base import Annotation, Collector, Dataset
from crowdseg.data.layout import images_below, split_of
from crowdseg.errors import DataError
from crowdseg.structures import Size

_PEOPLE = {"head", "person"}


@dataclass(frozen=True)
class Mark:
    """One point as the tool holds it: x and y from the image's corner, in pixels or per cent."""

    label: str
    x: float
    y: float


@dataclass(frozen=True)
class MarkedImage:
    """What a tool's file says of one image.

    Attributes:
        file: the tool's file. name: of the image, perhaps with folders.
        marks: its points; None where nobody has annotated it.
        others: shapes that are no points. size: ``(H, W)`` of the image in the tool, where it says so.
        percent: whether the marks are in per cent of width and height. subset: a name that may speak of a split.
        problem: why the image's annotation cannot be used, else None.
    """

    file: Path
    name: str
    marks: list[Mark] | None
    others: int = 0
    size: Size | None = None
    percent: bool = False
    subset: str = ""
    problem: str | None = None


def dataset_of(root: Path, format: str, found: list[MarkedImage], collector: Collector | None = None) -> Dataset:
    """The images below ``root`` with their marks; those that no file speaks of come without annotation."""
    collector = collector or Collector(root)
    images = images_below(root)
    endings = _by_ending(root, images)
    wanted = _wanted_labels(found)
    taken: set[Path] = set()
    for each in found:
        image = _image_of(each, endings, taken, collector)
        if image is not None:
            taken.add(image)
            _add(collector, each, image, wanted)
    for image in images:
        if image not in taken:
            collector.defect(image, f"no annotation of this image from {format}", broken=False)
            collector.add(image, _split(root, image), None)
    return collector.dataset(format)


def _by_ending(root: Path, images: list[Path]) -> dict[str, list[Path]]:
    """Every ending of an image's path below the root, from the bare name to the whole path -> the images it fits."""
    found: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        parts = image.relative_to(root).parts
        for start in range(len(parts)):
            found["/".join(parts[start:])].append(image)
    return found


def _image_of(each: MarkedImage, endings: dict[str, list[Path]], taken: set[Path], collector: Collector) -> Path | None:
    """The image that shares the longest ending with the name; a defect where there is none, or more than one."""
    parts = PurePosixPath(each.name.replace("\\", "/")).parts
    names = ("/".join(parts[start:]) for start in range(len(parts)))
    images = next((endings[name] for name in names if name in endings), [])
    if not images:
        collector.defect(each.file, f"image {each.name} is not there")
    elif len(images) > 1:
        collector.defect(each.file, f"image {each.name} fits {len(images)} images: give their names with folders")
    elif images[0] in taken:
        collector.defect(each.file, f"image {each.name} is annotated more than once; the first annotation is taken")
    else:
        return images[0]
    return None


def _wanted_labels(found: list[MarkedImage]) -> set[str]:
    labels = {mark.label.lower() for each in found for mark in each.marks or []}
    return (labels & _PEOPLE or labels) | {""}


def _add(collector: Collector, each: MarkedImage, image: Path, wanted: set[str]) -> None:
    split = split_of(each.subset) or _split(collector.root, image)
    read = None if each.marks is None and each.problem is None else partial(_read, each, wanted)
    if sample := collector.add(image, split, read):
        sample.annotation = each.file
        if read is None:
            collector.defect(image, f"not annotated in {each.file.name}", broken=False)
        elif each.others and sample.points is not None:
            note = f"{_shapes(each.others)} other than points, left out ({each.file.name})"
            collector.defect(image, note, broken=False)


def _split(root: Path, image: Path) -> str:
    return split_of(image.relative_to(root).parent.as_posix()) or "train"


def _read(each: MarkedImage, wanted: set[str], size: Size) -> Annotation:
    if each.problem is not None:
        raise DataError(f"{each.file} {each.problem} for {each.name}.")
    if each.size is not None and not _same_frame(each.size, size, each.percent):
        raise DataError(
            f"{each.file} says (height, width) = {each.size} for {each.name}, whose upright size is {size}. "
            "Annotate this image, or put the annotated one here."
        )
    marks = each.marks or []
    if each.others and not marks:
        raise DataError(f"{each.file} has {_shapes(each.others)} but no points for {each.name}. Mark heads by points.")
    points = np.array([(mark.x, mark.y) for mark in marks if mark.label.lower() in wanted], np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise DataError(f"{each.file} has a coordinate that is no finite number for {each.name}.")
    if each.percent:
        points *= np.array([size[1], size[0]]) / 100
    return Annotation(points - 0.5)


def _same_frame(noted: Size, size: Size, percent: bool) -> bool:
    """Whether marks on an image of one size fit the other; per cent need only the same shape, to a pixel."""
    if not percent:
        return noted == size
    return abs(noted[0] * size[1] - noted[1] * size[0]) <= max(*noted, *size)


def _shapes(number: int) -> str:
    return f"{number} shape" if number == 1 else f"{number} shapes"
