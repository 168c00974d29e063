"""Label Studio's JSON export (a list of tasks, key points in per cent) in a folder with the images."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from crowdseg import files
from crowdseg.data.base import Dataset, Reader
from crowdseg.data.images import IMAGE_SUFFIXES
from crowdseg.data.layout import files_of, images_below
from crowdseg.data.marks import Mark, MarkedImage, dataset_of
from crowdseg.errors import DataError

_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
_POINT_TYPES = {"keypoint", "keypointlabels"}
_PLACES = {"x", "points", "vertices", "rle"}  # one of these makes a result a shape

Task = dict[str, Any]


def matches(root: Path) -> bool:
    return bool(_json_files(root))


def read(root: Path) -> Dataset:
    home = root.parent if root.is_file() else root
    names = {image.name for image in images_below(home)}
    found = [_image(file, task, names) for file in _json_files(root) for task in _tasks(file)]
    return dataset_of(home, "Label Studio", found)


def _json_files(root: Path) -> list[Path]:
    candidates = [root] if root.is_file() and root.suffix.lower() == ".json" else files_of(root, {".json"})
    return [file for file in candidates if _is_export(file)]


def _is_export(file: Path) -> bool:
    """A list whose text names annotations and data; it may be too large to parse only to find out."""
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            is_list = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
            return is_list and content.find(b'"annotations"') >= 0 and content.find(b'"data"') >= 0
    except (OSError, ValueError):  # unreadable or empty
        return False


def _tasks(file: Path) -> list[Task]:
    tasks = files.read_json(file)
    if not all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks):
        raise DataError(f"{file} is not a list of Label Studio tasks. Export as JSON, not as JSON-MIN.")
    return tasks


def _image(file: Path, task: Task, names: set[str]) -> MarkedImage:
    name = _image_name(task, names)
    try:
        annotations = [each for each in task.get("annotations") or [] if not each.get("was_cancelled")]
        if not annotations:
            return MarkedImage(file, name, None)
        if len(annotations) > 1:
            return MarkedImage(file, name, None, problem=f"has {len(annotations)} annotations, keep one of them,")
        return _marked(file, name, annotations[0]["result"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"has a result that is not in Label Studio's form ({type(error).__name__}: {error})"
        return MarkedImage(file, name, None, problem=problem)


def _marked(file: Path, name: str, results: list[dict[str, Any]]) -> MarkedImage:
    shapes = [each for each in results if _PLACES & set(each.get("value", {}))]
    points = [each for each in shapes if each.get("type") in _POINT_TYPES]
    if any(each.get("image_rotation") for each in shapes):
        return MarkedImage(file, name, None, problem="was annotated on a picture turned in Label Studio")
    sizes = {(each["original_height"], each["original_width"]) for each in points if "original_width" in each}
    size = sizes.pop() if sizes else None
    marks = [_mark(each["value"]) for each in points]
    others = sum(each.get("type") not in {*_POINT_TYPES, "labels"} for each in shapes)
    return MarkedImage(file, name, marks, others, size, percent=True)


def _mark(value: dict[str, Any]) -> Mark:
    label = (value.get("keypointlabels") or [""])[0]
    return Mark(str(label), float(value["x"]), float(value["y"]))


def _image_name(task: Task, names: set[str]) -> str:
    """The image's name as it is on disk, out of an address or an upload's path; an upload's prefix goes if it must."""
    texts = [value for value in task["data"].values() if isinstance(value, str)]
    paths = [_path_of(text) for text in texts]
    path = next((each for each in paths if PurePosixPath(each).suffix.lower() in IMAGE_SUFFIXES), None)
    if path is None:
        return json.dumps(task["data"])[:80]  # for the message that no such image is there
    bare = PurePosixPath(path).name
    return _UPLOADED.sub("", bare) if bare not in names else path


def _path_of(address: str) -> str:
    """``/data/local-files/?d=a/b.jpg``, ``s3://bucket/a/b.jpg``, ``https://host/b.jpg?key=...`` -> the path."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


READER = Reader("Label Studio: its JSON export in a folder with the images", matches, read)
