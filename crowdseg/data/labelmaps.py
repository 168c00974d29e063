"""Images with instance masks: Penn-Fudan, DSB2018, and label maps in a folder near the images or beside them.

The point of an instance is made from its mask: a pedestrian's head in Penn-Fudan's folders, an inner point elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from crowdseg import files, rle
from crowdseg.data.base import Annotation, Collector, Dataset, Reader
from crowdseg.data.images import IMAGE_SUFFIXES
from crowdseg.data.inner import head_point, inner_point
from crowdseg.data.layout import files_of, folders_of, images_of, split_of, split_of_root, subfolder
from crowdseg.errors import DataError
from crowdseg.structures import RLE, Size

_IMAGE_FOLDERS, _MASK_FOLDERS = ("images", "imgs", "image"), ("masks", "mask", "labels", "instances")
_MASK_SUFFIXES = IMAGE_SUFFIXES | {".npy"}
PointOf = Callable[[np.ndarray], tuple[float, float]]


class Item(NamedTuple):
    """An image, the file or folder of its masks (None: it has none), and how a mask becomes a point."""

    image: Path
    masks: Path | None
    point_of: PointOf = inner_point


def matches(root: Path) -> bool:
    return any(item.masks for items in _items(root).values() for item in items)


def read(root: Path) -> Dataset:
    collector = Collector(root)
    for split, items in _items(root).items():
        for item in items:
            reader = partial(_read, point_of=item.point_of)
            collector.add_file(item.image, split, item.masks, reader, required=split != "test")
    return collector.dataset("PennFudan" if subfolder(root, ["pedmasks"]) else "label maps")


def _items(root: Path) -> dict[str, list[Item]]:
    """Split -> items, of root itself or of its folders named after splits."""
    own = _items_in(root)
    if own:
        return {split_of_root(root): own}
    found: dict[str, list[Item]] = {}
    for folder in folders_of(root):
        if split := split_of(folder.name):
            found.setdefault(split, []).extend(_items_in(folder))
    return found


def _items_in(folder: Path) -> list[Item]:
    if not folder.is_dir():
        return []
    layouts = (_penn_fudan, _one_folder_each, _masks_folder, _masks_beside)
    return next((items for layout in layouts if (items := layout(folder))), [])


def _penn_fudan(folder: Path) -> list[Item]:
    images, masks = subfolder(folder, ["pngimages"]), subfolder(folder, ["pedmasks"])
    return _paired(images, masks, head_point) if images and masks else []


def _masks_folder(folder: Path) -> list[Item]:
    images, masks = subfolder(folder, _IMAGE_FOLDERS), subfolder(folder, _MASK_FOLDERS)
    if images is None or (masks is None and split_of(folder.name) != "test"):
        return []
    return _paired(images, masks, inner_point)


def _paired(images: Path, masks: Path | None, point_of: PointOf) -> list[Item]:
    by_stem = {path.stem: path for path in files_of(masks, _MASK_SUFFIXES)} if masks else {}
    return [
        Item(image, by_stem.get(f"{image.stem}_mask") or by_stem.get(image.stem), point_of)
        for image in images_of(images)
    ]


def _one_folder_each(folder: Path) -> list[Item]:
    """DSB2018: ``ID/images/*.png`` with ``ID/masks/*.png``, one instance per file."""
    items = []
    for each in folders_of(folder):
        images = images_of(each / "images")
        if len(images) != 1:
            return []
        masks = each / "masks"
        if (masks / images[0].name).is_file():  # a label map: the images-and-masks layout
            return []
        items.append(Item(images[0], masks if masks.is_dir() else None))
    return items


def _masks_beside(folder: Path) -> list[Item]:
    """``NAME.png`` with ``NAME_mask.png``, or ``img*`` with ``mask*``, in one folder."""
    by_stem = {path.stem: path for path in files_of(folder, _MASK_SUFFIXES)}
    mask_of = {
        stem: next((by_stem[name] for name in (f"{stem}_mask", stem.replace("img", "mask")) if name in by_stem), None)
        for stem in by_stem
    }
    taken = {mask for stem, mask in mask_of.items() if mask and mask != by_stem[stem]}
    if not taken:
        return []
    return [Item(image, mask_of[image.stem]) for image in images_of(folder) if image not in taken]


def _read(path: Path, size: Size, point_of: PointOf) -> Annotation:
    points, masks = (_read_folder if path.is_dir() else _read_label_map)(path, size, point_of)
    return Annotation(np.array(points).reshape(-1, 2), rle.boxes(masks), masks)


def _read_label_map(path: Path, size: Size, point_of: PointOf) -> tuple[list, list[RLE]]:
    from scipy.ndimage import find_objects

    labels = files.read_label_map(path)
    _check_size(path, labels.shape, size)
    ids = np.unique(labels)
    ids = ids[ids != 0]
    labels = np.where(labels == 0, 0, np.searchsorted(ids, labels) + 1).astype(np.int32)  # ids may have gaps
    points = []
    for label, (rows, columns) in enumerate(find_objects(labels), start=1):
        x, y = point_of(labels[rows, columns] == label)
        points.append((x + columns.start, y + rows.start))
    return points, rle.from_label_map(labels, len(ids))


def _read_folder(folder: Path, size: Size, point_of: PointOf) -> tuple[list, list[RLE]]:
    points, masks = [], []
    for path in files_of(folder, _MASK_SUFFIXES):
        try:
            with Image.open(path) as image:
                mask = np.asarray(image.convert("L")) > 0
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path} is not a readable mask ({error}). Replace or remove it.") from error
        _check_size(path, mask.shape, size)
        if not mask.any():
            raise DataError(f"{path} is an empty mask. Remove it or draw the instance.")
        points.append(point_of(mask))
        masks.append(rle.from_mask(mask))
    return points, masks


def _check_size(path: Path, shape: tuple[int, ...], size: Size) -> None:
    if shape != size:
        raise DataError(f"{path} has size {shape}, its image {size} (height, width). Remake the mask.")


READER = Reader(
    "label maps: PNGImages/ and PedMasks/*_mask.png, images/ and masks/, NAME.png and NAME_mask.png, or ID/images and "
    "ID/masks with one mask per file",
    matches,
    read,
)
