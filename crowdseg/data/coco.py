"""COCO JSON: ``annotations/instances_*.json`` with folders of images beside, or a JSON file among its images.

The category ``person`` is taken where there is one, else all. A point is the annotation's own ``point`` where it has
one, else made from the mask (from the box, without mask): a person's head, an inner point of other things. ``iscrowd``
regions are ignored in scoring.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crowdseg import files, rle
from crowdseg.data.base import Annotation, Collector, Dataset, Reader
from crowdseg.data.inner import HEAD_SHARE, head_point, inner_point
from crowdseg.data.layout import files_of, folders_of, images_below, images_of, split_of
from crowdseg.errors import DataError
from crowdseg.structures import RLE, Size

Record = dict[str, Any]


@dataclass(frozen=True)
class Instances:
    """One JSON file: its image records, and the wanted annotations of each image by the image's id as text."""

    file: Path
    images: list[Record]
    annotations: dict[str, list[Record]]
    persons: bool


def matches(root: Path) -> bool:
    return bool(_json_files(root))


def read(root: Path) -> Dataset:
    home = _home(root)
    collector = Collector(home)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in images_below(home):
        by_name[path.name].append(path)
    split_of_folder: dict[Path, str] = {}
    seen: set[Path] = set()
    for file in _json_files(root):
        split = split_of(file.stem) or split_of(file.parent.name) or "train"
        instances = load_instances(file)
        for record in instances.images:
            image = _find(home, file, str(record.get("file_name", "")), by_name)
            if image is None:
                collector.defect(file, f"image {record.get('file_name')} is not there")
            elif image not in seen:
                seen.add(image)
                split_of_folder[image.parent] = split
                _add(collector, instances, record, image, split)
    for folder, split in split_of_folder.items():
        for path in images_of(folder):
            if path not in seen:
                collector.defect(path, "no record of this image in the JSON file", broken=False)
                collector.add(path, split, None)
    return collector.dataset("COCO")


def _home(root: Path) -> Path:
    folder = root.parent if root.is_file() else root
    return folder.parent if folder.name == "annotations" else folder


def _json_files(root: Path) -> list[Path]:
    """The instance files of ``root``, or root itself; of several kinds in one folder ``instances_*`` are the ones."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".json" and _is_coco(root) else []
    folders = [root / "annotations", root, *(folder for folder in folders_of(root) if split_of(folder.name))]
    for group in (folders[:1], folders[1:2], folders[2:]):
        found = [path for folder in group for path in files_of(folder, {".json"}) if _is_coco(path)]
        if found:
            return [path for path in found if path.stem.startswith("instances")] or found
    return []


def _is_coco(path: Path) -> bool:
    """Whether both lists are named in the file; it may be too large to parse only to find out."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b'"images"') >= 0 and content.find(b'"annotations"') >= 0
    except (OSError, ValueError):  # unreadable or empty
        return False


def load_instances(file: Path) -> Instances:
    content = files.read_json(file)
    try:
        names = {str(each["id"]): str(each.get("name", "")).lower() for each in content.get("categories", [])}
        persons = {key for key, name in names.items() if name == "person"}
        annotations: dict[str, list[Record]] = defaultdict(list)
        for each in content["annotations"]:
            if not persons or str(each.get("category_id")) in persons:
                annotations[str(each["image_id"])].append(each)
        return Instances(file, list(content["images"]), annotations, bool(persons))
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not in COCO form ({type(error).__name__}: {error}).") from error


def _find(home: Path, file: Path, name: str, by_name: dict[str, list[Path]]) -> Path | None:
    """The image of a record: at its name, else by its file name, in the folder that the JSON file's name speaks of."""
    name = name.replace("\\", "/")
    for folder in (file.parent, home):
        if name and (folder / name).is_file() and (folder / name).resolve().is_relative_to(home.resolve()):
            return home / (folder / name).relative_to(home)
    found = by_name.get(name.rsplit("/", 1)[-1], [])
    named = [image for image in found if image.parent.name in file.stem]
    return next(iter(named or found), None)


def _add(collector: Collector, instances: Instances, record: Record, image: Path, split: str) -> None:
    annotations = instances.annotations.get(str(record.get("id")), [])
    reader = partial(_read, collector, instances, record, image, annotations)
    if sample := collector.add(image, split, reader):
        sample.annotation = instances.file


def _read(
    collector: Collector, instances: Instances, record: Record, image: Path, annotations: list[Record], size: Size
) -> Annotation:
    noted = (record.get("height", size[0]), record.get("width", size[1]))
    if noted != size:
        raise DataError(
            f"{instances.file} says {noted} for {image.name}, whose upright size is {size} (height, width)."
        )
    found: list[tuple[tuple[float, float], np.ndarray, RLE | None]] = []
    ignore: list[RLE] = []
    for each in annotations:
        try:
            mask = mask_of(each, size)
            if each.get("iscrowd"):
                ignore += [mask] if mask else []
            else:
                box = _box(each, mask)
                found.append((_point(each, mask, box, instances.persons), box, mask))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            collector.defect(image, f"annotation {each.get('id')} is unusable ({error})")
    masks = [mask for *_, mask in found if mask is not None]
    return Annotation(
        np.array([point for point, *_ in found], np.float64).reshape(-1, 2),
        np.array([box for _, box, _ in found], np.float64).reshape(-1, 4),
        masks if len(masks) == len(found) else None,
        ignore,
    )


def mask_of(annotation: Record, size: Size) -> RLE | None:
    """The mask, or None where there is no segmentation or it covers no pixel."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        segmentation = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not segmentation:
        return None
    mask = rle.from_coco(segmentation, size)
    if tuple(mask["size"]) != size:
        raise ValueError(f"its mask has size {tuple(mask['size'])}, the image {size}")
    return mask if rle.area([mask])[0] else None


def _box(annotation: Record, mask: RLE | None) -> np.ndarray:
    if "bbox" in annotation:
        x, y, width, height = map(float, annotation["bbox"])
        return np.array([x, y, x + width, y + height])
    if mask is None:
        raise ValueError("neither a segmentation nor a bbox")
    return rle.boxes([mask])[0]


def _point(annotation: Record, mask: RLE | None, box: np.ndarray, person: bool) -> tuple[float, float]:
    if "point" in annotation:
        x, y = annotation["point"]
        return float(x), float(y)
    if mask is not None:
        return (head_point if person else inner_point)(rle.to_mask(mask))
    x0, y0, x1, y1 = box - 0.5  # pixel edges -> pixel centres
    return (x0 + x1) / 2, y0 + (HEAD_SHARE if person else 0.5) * (y1 - y0)


READER = Reader(
    "COCO: annotations/instances_*.json and folders of images, or a JSON file among its images", matches, read
)
