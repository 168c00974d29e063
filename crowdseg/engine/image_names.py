"""Finding the sample that another tool's file means by a name or a number."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from crowdseg.data import IMAGE_SUFFIXES, Dataset
from crowdseg.errors import DataError
from crowdseg.files import read_json
from crowdseg.structures import Sample


@dataclass
class CocoIds:
    """What the dataset's COCO files say.

    Attributes:
        keys: image id (as text) -> key.
        person: the id of the category ``person`` where there are several categories.
        heads: whether the true points are heads of standing people, made from masks.
    """

    keys: dict[str, str] = field(default_factory=dict)
    person: Any = None
    heads: bool = False


def person_categories(document: dict[str, Any]) -> list[Any]:
    """Ids of the categories named ``person`` of a COCO file."""
    listed = document.get("categories")
    categories = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return [each.get("id") for each in categories if str(each.get("name")).lower() == "person"]


def person_category(document: dict[str, Any]) -> Any:
    """The id of the category ``person`` where a COCO file has several categories, else None."""
    people = person_categories(document)
    return people[0] if people and len(document["categories"]) > 1 else None


class ImageNames:
    """Resolves names with or without folders and extension, and numbers, to the samples of a dataset.

    Args:
        dataset: all samples that may be named.
        wanted: the samples that matter; where a name fits several (``IMG_1`` of training and of test), the one of
            these is meant.
    """

    def __init__(self, dataset: Dataset, wanted: list[Sample]) -> None:
        self.wanted = {sample.key for sample in wanted}
        self._samples, self._format = dataset.samples, dataset.format
        self._by_stem: dict[str, list[Sample]] = defaultdict(list)
        self._by_number: dict[int, list[Sample]] = defaultdict(list)
        for sample in dataset.samples:
            stem = sample.image.stem
            self._by_stem[stem.lower()].append(sample)
            if stem.isdecimal():
                self._by_number[int(stem)].append(sample)

    def find(self, name: Any) -> str | None:
        """The key of the sample of this name or number, None where there is none.

        Raises:
            DataError: the name fits several samples.
        """
        path = PurePosixPath(str(name).strip().replace("\\", "/"))
        stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
        found = self._by_stem.get(stem.lower(), [])
        if not found and stem.isdecimal():
            found = self._by_number.get(int(stem), [])
        return self._one(name, _deepest(found, path))

    def coco(self) -> CocoIds:
        """The dataset's own COCO annotation files. Ids of wanted samples win."""
        files: dict[Path, list[Sample]] = defaultdict(list)
        for sample in self._samples if self._format == "COCO" else ():
            if sample.annotation is not None:
                files[sample.annotation].append(sample)
        found = CocoIds(heads=self._format == "PennFudan")
        for file, samples in files.items():
            document = read_json(file)
            if isinstance(document, dict) and isinstance(document.get("images"), list):
                found.person, found.heads = person_category(document), bool(person_categories(document))
                self._add_ids(document["images"], {sample.image.name: sample.key for sample in samples}, found.keys)
        return found

    def _add_ids(self, images: list[dict[str, Any]], keys: dict[str, str], ids: dict[str, str]) -> None:
        for image in filter(lambda image: isinstance(image, dict), images):
            key = keys.get(PurePosixPath(str(image.get("file_name"))).name)
            if key is not None and (key in self.wanted or str(image.get("id")) not in ids):
                ids[str(image.get("id"))] = key

    def _one(self, name: Any, found: list[Sample]) -> str | None:
        if len(found) > 1:
            found = [sample for sample in found if sample.key in self.wanted] or found[:1]
        if len(found) > 1:
            names = ", ".join(sample.key for sample in found[:3])
            raise DataError(f"The name {name!r} fits {len(found)} images ({names}). Write it with its folder.")
        return found[0].key if found else None


def _deepest(samples: list[Sample], path: PurePosixPath) -> list[Sample]:
    """Of samples with the right stem, those sharing most of the name's folders; all where none shares any."""

    def shared(sample: Sample) -> int:
        folders = [part.lower() for part in path.parent.parts]
        own = [part.lower() for part in PurePosixPath(sample.image.as_posix()).parent.parts]
        count = 0
        while count < min(len(folders), len(own)) and folders[-1 - count] == own[-1 - count]:
            count += 1
        return count

    best = max(map(shared, samples), default=0)
    return [sample for sample in samples if shared(sample) == best]
