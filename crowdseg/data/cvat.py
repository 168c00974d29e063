"""CVAT's XML, version 1.1, of image tasks: ``annotations.xml`` and the images, in its own folder or below it.

A head is a point, however the points are grouped into shapes. An image element without shapes says: nobody.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from crowdseg.data.base import Dataset, Reader
from crowdseg.data.layout import files_of
from crowdseg.data.marks import Mark, MarkedImage, dataset_of
from crowdseg.errors import DataError

_START = 4096  # bytes in which the root element begins
_NO_SHAPES = {"tag"}  # elements of an image that mark no place


def matches(root: Path) -> bool:
    return bool(_xml_files(root))


def read(root: Path) -> Dataset:
    found = [each for file in _xml_files(root) for each in _images_in(file)]
    return dataset_of(root.parent if root.is_file() else root, "CVAT", found)


def _xml_files(root: Path) -> list[Path]:
    candidates = [root] if root.is_file() and root.suffix.lower() == ".xml" else files_of(root, {".xml"})
    return [file for file in candidates if _is_cvat(file)]


def _is_cvat(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return b"<annotations>" in content.read(_START)
    except OSError:
        return False


def _images_in(file: Path) -> list[MarkedImage]:
    try:
        document = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{file} is not readable XML ({error}). Export it again.") from error
    if document.find("track") is not None:
        raise DataError(f"{file} is of a video task. Export it from CVAT as `CVAT for images 1.1`.")
    return [_image(file, element) for element in document.iter("image")]


def _image(file: Path, element: ElementTree.Element) -> MarkedImage:
    name, subset = element.get("name", ""), element.get("subset", "")
    shapes = [child for child in element if child.tag not in _NO_SHAPES]
    points = [child for child in shapes if child.tag == "points"]
    try:
        marks = [mark for child in points for mark in _marks(child)]
        size = (int(element.get("height", "")), int(element.get("width", "")))
    except ValueError as error:
        return MarkedImage(file, name, None, problem=f"has points or a size that are no numbers ({error})")
    return MarkedImage(file, name, marks, len(shapes) - len(points), size, subset=subset)


def _marks(points: ElementTree.Element) -> list[Mark]:
    """``points="x,y;x,y"`` -> marks."""
    label, marks = points.get("label", ""), []
    for pair in points.get("points", "").split(";"):
        x, y = pair.split(",")
        marks.append(Mark(label, float(x), float(y)))
    return marks


READER = Reader("CVAT: annotations.xml (CVAT for images 1.1) and the images", matches, read)
