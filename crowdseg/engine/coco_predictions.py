"""Reading COCO results and COCO files as predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from crowdseg import rle
from crowdseg.data import head_point, inner_point
from crowdseg.engine.image_names import person_category
from crowdseg.engine.people import People, count, number, score
from crowdseg.structures import RLE, Size

Record = dict[str, Any]


def read_coco(document: Any, people: People) -> bool:
    """Fill ``people`` from a COCO results list or a whole COCO file.

    Returns:
        Whether the document lists every image, also those without anybody.
    """
    whole = isinstance(document, dict)
    records = document.get("annotations") if whole else document
    images = document.get("images", []) if whole else []
    lists = isinstance(records, list) and isinstance(images, list)
    if not lists or not all(isinstance(record, dict) for record in [*records, *images]):
        raise people.error("which is JSON", "is neither a COCO results list nor a COCO file with annotations")
    keys = _Keys(images, people)
    category = person_category(document) if whole else keys.person
    wanted = list(_wanted(records, keys, category, people))
    masked = any(record.get("segmentation") for record in records)
    masks: Sequence[RLE | None] = _masks(wanted, people) if masked else [None] * len(wanted)
    for (where, key, record), mask in zip(wanted, masks, strict=True):
        point = _point(record, mask, keys.heads, people, where)
        people.add(key, point, score(record.get("score", 1.0), people, where), mask)
    _totals(images, keys, people)
    return bool(images)


class _Keys:
    """Image ids -> keys: by the document's own images, else by the dataset's COCO files, else as names."""

    def __init__(self, images: list[Record], people: People) -> None:
        self._people = people
        self._own = {
            str(image.get("id")): people.find(str(image.get("file_name", image.get("id")))) for image in images
        }
        self._coco = people.names.coco()
        self.person, self.heads = self._coco.person, self._coco.heads

    def find(self, image_id: Any, where: str) -> str | None:
        name = str(image_id)
        if self._own:
            if name not in self._own:
                raise self._people.error(where, f"has image_id {image_id!r}, which the file's images do not list")
            return self._own[name]
        key = self._coco.keys.get(name)
        return self._people.find(name) if key is None else self._people.listing(key)


def _wanted(records: list[Record], keys: _Keys, category: Any, people: People) -> Iterator[tuple[str, str, Record]]:
    """Place in the file, key of the image, and record of every person in a wanted image."""
    for index, record in enumerate(records, 1):
        where = f"annotation {index}"
        if "image_id" not in record:
            raise people.error(where, "has no image_id")
        key = keys.find(record["image_id"], where)
        other = category is not None and record.get("category_id", category) != category
        if key is not None and not other and not record.get("iscrowd"):
            yield where, key, record


def _masks(wanted: list[tuple[str, str, Record]], people: People) -> list[RLE]:
    """The mask of each record."""
    sizes = {sample.key: sample.size for sample in people.wanted}
    masks = [_mask(record, sizes[key], people, where) for where, key, record in wanted]
    for index in np.flatnonzero(rle.damaged(masks)):  # all at once, which is faster
        height, width = masks[index]["size"]
        raise people.error(wanted[index][0], f"has an RLE whose counts are not the runs of {width} x {height} pixels")
    return masks


def _mask(record: Record, size: Size, people: People, where: str) -> RLE:
    if not record.get("segmentation"):
        raise people.error(where, "has no segmentation although others have one")
    try:
        mask = rle.from_coco(record["segmentation"], size)
    except Exception as error:  # pycocotools raises anything on a malformed segmentation
        raise people.error(where, f"has a segmentation that is neither polygons nor RLE ({error})") from error
    if tuple(mask["size"]) != tuple(size):
        raise people.error(where, f"has a mask of {tuple(mask['size'])} where the image has (H, W) = {tuple(size)}")
    return mask


def _point(record: Record, mask: RLE | None, heads: bool, people: People, where: str) -> tuple[float, float]:
    """The person's point: as given, else made from the mask as the dataset's own are, else the centre of the box."""
    if "point" in record:
        x, y = _numbers(record["point"], 2, people, where)
        return x, y
    if mask is not None and rle.area([mask])[0]:
        return (head_point if heads else inner_point)(rle.to_mask(mask))
    if "bbox" not in record:
        raise people.error(where, "has neither a point [x, y] nor a bbox [x, y, w, h] nor a mask with a pixel")
    x, y, width, height = _numbers(record["bbox"], 4, people, where)
    # From pixel edges to coordinates whose integers are pixel centres.
    return x + width / 2 - 0.5, y + height / 2 - 0.5


def _numbers(values: Any, expected: int, people: People, where: str) -> list[float]:
    if not isinstance(values, list) or len(values) != expected:
        raise people.error(where, f"has {values!r} where {expected} numbers are expected")
    return [number(value, people, where) for value in values]


def _totals(images: list[Record], keys: _Keys, people: People) -> None:
    """Counts that crowdseg wrote beside the people, where they are not the number of these."""
    for index, image in enumerate(images, 1):
        key, value = keys.find(image.get("id"), "images"), image.get("count")
        if isinstance(value, int | float):
            total = count(value, people, f"image {index}")
            if key is not None and isinstance(value, float):
                people.totals[key] = total
