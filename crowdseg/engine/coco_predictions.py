"""Reading COCO results and COCO files as predictions."""

from __future__ import annotations

from typing import Any

from crowdseg import rle
from crowdseg.engine.image_names import CocoIds, person_category
from crowdseg.engine.people import People, number
from crowdseg.structures import RLE, Size


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
    sizes = {sample.key: sample.size for sample in people.wanted}
    masked = [bool(record.get("segmentation")) for record in records]
    for index, record in enumerate(records):
        where = f"annotation {index + 1}"
        if "image_id" not in record:
            raise people.error(where, "has no image_id")
        key = keys.find(record["image_id"], where)
        if key is None or (category is not None and record.get("category_id", category) != category):
            continue
        if any(masked) and not masked[index]:
            raise people.error(where, "has no segmentation although others have one")
        mask = _mask(record, sizes[key], people, where) if masked[index] else None
        score = number(record.get("score", 1.0), people, where)
        people.add(key, _point(record, mask, people, where), score, mask)
    _totals(images, keys, people)
    return bool(images)


class _Keys:
    """Image ids -> keys: by the document's own images, else by the dataset's COCO files, else as names."""

    def __init__(self, images: list[dict[str, Any]], people: People) -> None:
        self._people = people
        self._own = {
            str(image.get("id")): people.find(str(image.get("file_name", image.get("id")))) for image in images
        }
        self._coco = CocoIds() if images else people.names.coco()
        self.person = self._coco.person

    def find(self, image_id: Any, where: str) -> str | None:
        name = str(image_id)
        if self._own:
            if name not in self._own:
                raise self._people.error(where, f"has image_id {image_id!r}, which the file's images do not list")
            return self._own[name]
        key = self._coco.keys.get(name)
        return self._people.find(name) if key is None else self._people.listing(key)


def _mask(record: dict[str, Any], size: Size, people: People, where: str) -> RLE:
    try:
        mask = rle.from_coco(record["segmentation"], size)
    except Exception as error:  # pycocotools raises anything on a malformed segmentation
        raise people.error(where, f"has a segmentation that is neither polygons nor RLE ({error})") from error
    if tuple(mask["size"]) != tuple(size):
        raise people.error(where, f"has a mask of {tuple(mask['size'])} where the image has (H, W) = {tuple(size)}")
    return mask


def _point(record: dict[str, Any], mask: RLE | None, people: People, where: str) -> tuple[float, float]:
    """The person's point; else the centre of the box, in coordinates whose integers are pixel centres."""
    values = record.get("point") or record.get("bbox")
    if values is None and mask is not None:
        x0, y0, x1, y1 = rle.boxes([mask])[0]
        values = (x0, y0, x1 - x0, y1 - y0)
    expected = 2 if record.get("point") else 4
    if not isinstance(values, (list, tuple)) or len(values) != expected:
        raise people.error(where, "has neither a point [x, y] nor a bbox [x, y, w, h] nor a segmentation")
    x, y, *sides = (number(value, people, where) for value in values)
    return (x + sides[0] / 2 - 0.5, y + sides[1] / 2 - 0.5) if sides else (x, y)


def _totals(images: list[dict[str, Any]], keys: _Keys, people: People) -> None:
    """Counts that crowdseg wrote beside the people, where they are not the number of these."""
    for image in images:
        key = keys.find(image.get("id"), "images")
        if key is not None and isinstance(image.get("count"), float):
            people.totals[key] = image["count"]
