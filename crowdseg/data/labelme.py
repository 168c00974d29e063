"""LabelMe: a JSON file per image, with shapes of the type ``point``; beside the images or in folders next to them."""

from __future__ import annotations

import mmap
from pathlib import Path, PureWindowsPath
from typing import Any

from crowdseg import files
from crowdseg.data.base import Collector, Dataset, Reader
from crowdseg.data.layout import files_of, folders_of
from crowdseg.data.marks import Mark, MarkedImage, dataset_of
from crowdseg.errors import DataError


def matches(root: Path) -> bool:
    """Of each folder the first JSON file is looked at."""
    return any(_is_labelme(file) for folder in _folders(root) for file in files_of(folder, {".json"})[:1])


def read(root: Path) -> Dataset:
    collector, found = Collector(root), []
    for file in (file for folder in _folders(root) for file in files_of(folder, {".json"})):
        try:
            found.append(_image(file, files.read_json(file)))
        except DataError as error:
            collector.defect(file, str(error))
    return dataset_of(root, "LabelMe", found, collector)


def _folders(root: Path) -> list[Path]:
    return [root, *folders_of(root)]


def _is_labelme(file: Path) -> bool:
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b'"shapes"') >= 0 and content.find(b'"imagePath"') >= 0
    except (OSError, ValueError):  # unreadable or empty
        return False


def _image(file: Path, document: Any) -> MarkedImage:
    try:
        name = _name_below(file, document["imagePath"])
        shapes = document["shapes"]
        points = [shape for shape in shapes if shape.get("shape_type") == "point"]
        marks = [Mark(str(shape["label"]), *map(float, shape["points"][0])) for shape in points]
        size = (document.get("imageHeight"), document.get("imageWidth"))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is not in LabelMe's form ({type(error).__name__}: {error}).") from error
    return MarkedImage(file, name, marks, len(shapes) - len(points), None if None in size else size)


def _name_below(file: Path, path: str) -> str:
    """The image's path, which the file gives as seen from itself and perhaps with Windows' strokes."""
    parts = PureWindowsPath(path).parts
    below = [part for part in parts if part not in (".", "..")]
    return "/".join([file.parent.name, *below]) if ".." not in parts else "/".join(below)


READER = Reader("LabelMe: JSON files with points, and the images", matches, read)
