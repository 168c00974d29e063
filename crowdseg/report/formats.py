"""The forms in which predictions leave: one writer each, and a line in :data:`FORMATS`.

All are written image by image from what :mod:`crowdseg.report.journal` holds, and take their places when the last
image is in.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from crowdseg import __version__, files

CATEGORY = {"id": 1, "name": "person", "supercategory": "person"}


@dataclass(frozen=True)
class Entry:
    """One image of an output.

    Attributes:
        id: its number in COCO files.
        name: its path below the folder that all images share, with extension.
        stem: its name in the output folder's own files.
        people: in point order, each ``score``, ``point`` [x, y] and, with masks, ``bbox`` [x, y, w, h], ``area`` and
            ``segmentation``.
    """

    id: int
    name: str
    stem: str
    height: int
    width: int
    count: float
    people: list[dict[str, Any]]


Add = Callable[[Entry], None]
Write = Callable[[Path, dict[str, Any]], AbstractContextManager[Add]]  # the folder, and what is told of the model


@contextmanager
def write_counts(folder: Path) -> Iterator[Add]:
    """``counts.csv``: ``image,count``."""
    with files.atomic(folder / "counts.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "count"])
        yield lambda entry: table.writerow([entry.name, show_count(entry.count)])


@contextmanager
def write_coco(folder: Path, info: dict[str, Any]) -> Iterator[Add]:
    """``predictions.json``: images with size and count, a category, and the people as annotations."""
    images: list[dict[str, Any]] = []
    info = {"description": "Predictions of crowdseg", "version": __version__, **info}
    with files.atomic(folder / "predictions.json") as temporary, temporary.open("w", encoding="utf-8") as document:
        document.write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps([CATEGORY])},\n"annotations": [')
        number = 0

        def add(entry: Entry) -> None:
            nonlocal number
            image = {"id": entry.id, "file_name": entry.name, "height": entry.height, "width": entry.width}
            images.append({**image, "count": entry.count})
            for person in entry.people:
                document.write(
                    f"{',' if number else ''}\n{json.dumps({'id': number + 1, **_annotation(entry, person)})}"
                )
                number += 1

        yield add
        document.write('\n],\n"images": [\n' + ",\n".join(map(json.dumps, images)) + "\n]}\n")


def _annotation(entry: Entry, person: dict[str, Any]) -> dict[str, Any]:
    return {"image_id": entry.id, "category_id": CATEGORY["id"], **person}


FORMATS: dict[str, Write] = {"coco": write_coco}


def image_ids(names: list[str]) -> list[int]:
    """COCO ids: the numbers that the images are named by, as COCO's own are, else 1, 2, ..."""
    stems = [PurePosixPath(name).stem for name in names]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdecimal()]
    return numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))


def show_count(count: float) -> str:
    """A count without needless decimals."""
    return str(int(count)) if float(count).is_integer() else f"{count:.2f}"
