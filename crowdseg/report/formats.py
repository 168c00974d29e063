"""The forms in which predictions leave: one writer each, and a line in :data:`FORMATS`.

All are written image by image from what :mod:`crowdseg.report.journal` holds, and take their places when the last
image is in.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdseg import __version__, files, rle
from crowdseg.errors import UsageError

CATEGORY = {"id": 1, "name": "person", "supercategory": "person"}


@dataclass(frozen=True)
class Entry:
    """One image of an output.

    Attributes:
        number: that it is named by, as COCO's images are; None where not every image is named by another number.
        name: its path below the folder that all images share, with extension.
        stem: its name in the output folder's own files.
        label: its name in lists that give numbers or single words: ``3610`` of NWPU-Crowd's ``images/3610.jpg``.
        people: in point order, each ``score``, ``point`` [x, y] and, with masks, ``bbox`` [x, y, w, h], ``area`` and
            ``segmentation``.
    """

    number: int | None
    name: str
    stem: str
    label: str
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
            image_id = len(images) + 1 if entry.number is None else entry.number
            image = {"id": image_id, "file_name": entry.name, "height": entry.height, "width": entry.width}
            images.append({**image, "count": entry.count})
            ids = {"image_id": image_id, "category_id": CATEGORY["id"]}
            records = [{"id": number + place, **ids, **person} for place, person in enumerate(entry.people, 1)]
            if records:  # a line an image
                document.write(f"{',' if number else ''}\n{json.dumps(records)[1:-1]}")
            number += len(records)

        yield add
        document.write('\n],\n"images": [\n' + ",\n".join(map(json.dumps, images)) + "\n]}\n")


@contextmanager
def write_results(folder: Path, info: dict[str, Any]) -> Iterator[Add]:
    """``results.json``: a COCO results list of the masks. ``image_id`` is the image's number, or its name where it has
    none: ids of our own would pass for those of the dataset it is scored against."""
    with files.atomic(folder / "results.json") as temporary, temporary.open("w", encoding="utf-8") as document:
        mark = "["

        def add(entry: Entry) -> None:
            nonlocal mark
            image_id = entry.name if entry.number is None else entry.number
            for person in entry.people:
                result = {name: person[name] for name in ("score", "point", "segmentation")}
                result = {"image_id": image_id, "category_id": CATEGORY["id"], **result}
                document.write(f"{mark}\n{json.dumps(result)}")
                mark = ","

        yield add
        document.write("[]\n" if mark == "[" else "\n]\n")


@contextmanager
def write_nwpu(folder: Path, info: dict[str, Any]) -> Iterator[Add]:
    """``nwpu-counting.txt`` and ``nwpu-localization.txt``, as the NWPU-Crowd benchmark takes them: ``image count`` and
    ``image n x y x y ...`` with whole numbers."""
    with ExitStack() as stack:
        counts, places = (
            stack.enter_context(stack.enter_context(files.atomic(folder / name)).open("w", encoding="utf-8"))
            for name in ("nwpu-counting.txt", "nwpu-localization.txt")
        )

        def add(entry: Entry) -> None:
            last = (entry.height - 1, entry.width - 1)
            points = [
                [min(round(value), end) for value, end in zip(person["point"], last[::-1], strict=True)]
                for person in entry.people
            ]
            counts.write(f"{entry.label} {entry.count:.4f}\n")
            places.write(" ".join(map(str, [entry.label, len(points), *chain(*points)])) + "\n")

        yield add


@contextmanager
def write_geojson(folder: Path, info: dict[str, Any]) -> Iterator[Add]:
    """``geojson/NAME.geojson``: a collection of features an image, in pixel edges: x to the right, y down, (0, 0) the
    corner of the image and not, as elsewhere in crowdseg, the centre of its first pixel."""

    def add(entry: Entry) -> None:
        size = (entry.height, entry.width)
        masks = [rle.from_coco(person["segmentation"], size) for person in entry.people if "segmentation" in person]
        crops = rle.crops(masks)
        features = [
            _feature(number, person, next(crops) if "segmentation" in person else None)
            for number, person in enumerate(entry.people, 1)
        ]
        image = {"image": entry.name, "height": entry.height, "width": entry.width, "count": entry.count}
        lines = ",\n".join(map(json.dumps, features))
        head = json.dumps({"type": "FeatureCollection", **image})[:-1]
        files.write_text(folder / "geojson" / f"{entry.stem}.geojson", f'{head}, "features": [\n{lines}\n]}}\n')

    yield add


def _feature(number: int, person: dict[str, Any], crop: tuple[int, int, NDArray[np.bool_]] | None) -> dict[str, Any]:
    """A person as a polygon, as several where the mask is in parts, or as a point where there is no pixel."""
    from crowdseg.polygons import polygons  # which takes SciPy half a second to load

    point = [round(value + 0.5, 3) for value in person["point"]]
    parts = []
    if crop is not None:
        *corner, pixels = crop
        parts = [[(ring + corner).tolist() for ring in part] for part in polygons(pixels)]
    if not parts:
        geometry: dict[str, Any] = {"type": "Point", "coordinates": point}
    elif len(parts) == 1:
        geometry = {"type": "Polygon", "coordinates": parts[0]}
    else:
        geometry = {"type": "MultiPolygon", "coordinates": parts}
    told = {"category": CATEGORY["name"], "score": person["score"], "point": point}
    told |= {"area": person["area"]} if crop is not None else {}
    return {"type": "Feature", "id": number, "geometry": geometry, "properties": told}


FORMATS: dict[str, Write] = {
    "coco": write_coco,
    "coco-results": write_results,
    "nwpu": write_nwpu,
    "geojson": write_geojson,
}


def numbers_of(names: list[str]) -> list[int | None]:
    """The numbers that the images are named by, as COCO's own are; None for all if one has none, or two the same."""
    stems = [PurePosixPath(name).stem for name in names]
    numbers = {int(stem) for stem in stems if stem.isascii() and stem.isdecimal()}
    return [int(stem) for stem in stems] if len(numbers) == len(names) else [None] * len(names)


def stems_of(names: list[str]) -> list[str]:
    """Names without extension; with it where another image has taken that (``a.jpg`` beside ``a.png``)."""
    taken: dict[str, None] = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("").as_posix()
        taken[name if stem in taken else stem] = None
    return list(taken)


def labels_of(names: list[str]) -> list[str]:
    """The last part of each name without extension; where two would be the same, :func:`stems_of`."""
    last = [PurePosixPath(name).stem for name in names]
    return last if len(set(last)) == len(names) else stems_of(names)


def check_names(names: list[str], formats: Iterable[str]) -> None:
    """Refuse, before anything is predicted, names that a format cannot hold.

    Raises:
        UsageError: an NWPU text is wanted of a name with a space.
    """
    spaced = [label for label in labels_of(names) if label.split() != [label]]
    if "nwpu" in formats and spaced:
        raise UsageError(f"The NWPU format parts its fields by spaces, and {spaced[0]!r} has one: rename the image.")


def show_count(count: float) -> str:
    """A count without needless decimals."""
    return str(int(count)) if float(count).is_integer() else f"{count:.2f}"
