"""Reading COCO results and COCO files as predictions."""

from __future__ import annotations

from typing import Any

from crowdseg import rle
from crowdseg.data import head_point, inner_point
from crowdseg.engine.image_names import person_category
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
    any_masked = any(masked)
    for index, record in enumerate(records):
        where = f"annotation {index + 1}"
        if "image_id" not in record:
            raise people.error(where, "has no image_id")
        key = keys.find(record["image_id"], where)
        other = category is not None and record.get("category_id", category) != category
        if key is None or other or record.get("iscrowd"):
            continue
        if any_masked and not masked[index]:
            raise people.error(where, "has no segmentation although others have one")
        mask = _mask(record, sizes[key], people, where) if masked[index] else None
        score = number(record.get("score", 1.0), people, where)
        people.add(key, _point(record, mask, keys.heads, people, where), score, mask)
    _totals(images, keys, people)
    return bool(images)


class _Keys:
    """Image ids -> keys: by the document's own images, else by the dataset's COCO files, else as names."""

    def __init__(self, images: list[dict[str, Any]], people: People) -> None:
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


def _mask(record: dict[str, Any], size: Size, people: People, where: str) -> RLE:
    try:
        mask = rle.from_coco(record["segmentation"], size)
    except Exception as error:  # pycocotools raises anything on a malformed segmentation
        raise people.error(where, f"has a segmentation that is neither polygons nor RLE ({error})") from error
    if tuple(mask["size"]) != tuple(size):
        raise people.error(where, f"has a mask of {tuple(mask['size'])} where the image has (H, W) = {tuple(size)}")
    return mask


def _point(record: dict[str, Any], mask: RLE | None, heads: bool, people: People, where: str) -> tuple[float, float]:
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


def _totals(images: list[dict[str, Any]], keys: _Keys, people: People) -> None:
    """Counts that crowdseg wrote beside the people, where they are not the number of these."""
    for image in images:
        key = keys.find(image.get("id"), "images")
        if key is not None and isinstance(image.get("count"), float):
            people.totals[key] = image["count"]
