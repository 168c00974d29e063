"""Reading the predictions that crowdseg or another tool wrote, for scoring."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crowdseg.data import Dataset
from crowdseg.engine.coco_predictions import read_coco
from crowdseg.engine.image_names import ImageNames
from crowdseg.engine.people import People, count, number, score
from crowdseg.errors import DataError, UsageError
from crowdseg.structures import Prediction, Sample

NAMES_SHOWN = 3
HEADINGS = {"image", "image_id", "image_name", "img", "name", "file", "file_name", "filename", "path", "id"}


@dataclass(frozen=True)
class PredictionFile:
    """What a file says of the wanted samples.

    Attributes:
        predictions: key -> prediction, one for every wanted sample.
        absent: keys of samples that the file does not mention. Formats that list people rather than images have no
            other way to say that nobody was found.
        located: whether people have positions.
    """

    predictions: dict[str, Prediction]
    absent: list[str]
    located: bool


def read_predictions(file: str | Path, dataset: Dataset, samples: list[Sample] | None = None) -> PredictionFile:
    """Read predictions in any of these forms, told apart by their content:

    - COCO results (a JSON list) or a whole COCO file, ``predictions.json`` of ``crowdseg predict`` among them: masks
      as RLE or polygons, else boxes; optional ``score`` and ``point``. Where no point is given it is made from the
      mask, as the dataset's own are, or is the centre of the box. ``image_id`` is an id of the file's own ``images``
      list, else of the dataset's COCO file, else a name.
    - CSV ``image,count``, and CSV ``image,x,y[,score]``, one person a line, with or without these headings
      (:data:`HEADINGS` may stand for ``image``).
    - text ``image n x y x y ...`` (the NWPU-Crowd localisation format); a number means the image of that name.

    Names may have folders and extension or not. Images that the dataset has but ``samples`` has not are passed over.

    Args:
        file: the file.
        dataset: the dataset it is about.
        samples: the samples that are wanted; default all.

    Raises:
        UsageError: the file is not there.
        DataError: it cannot be read, names an image that the dataset does not have, or lacks one that it should list.
    """
    file = Path(file)
    if not file.is_file():
        raise UsageError(f"{file} is {'not there' if not file.exists() else 'a folder'}; name a file of predictions.")
    wanted = dataset.samples if samples is None else samples
    people = People(file, ImageNames(dataset, wanted), wanted)
    try:
        text = file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not readable text ({error}). Expected JSON, CSV or NWPU text.") from error
    if not text:
        raise DataError(f"{file} is empty. Expected JSON, CSV or NWPU text.")
    complete = _read(text, people)
    _check(people, complete)
    predictions = {sample.key: people.prediction(sample) for sample in wanted}
    absent = [sample.key for sample in wanted if sample.key not in people.listed]
    return PredictionFile(predictions, absent, people.located)


def _read(text: str, people: People) -> bool:
    """Fill ``people``; whether the format names every image, also those without anybody."""
    if text[0] in "[{":
        try:
            document = json.loads(text)
        except ValueError as error:
            raise DataError(f"{people.file} is not readable JSON ({error}).") from error
        return read_coco(document, people)
    delimiter = _delimiter(text)
    if delimiter is None:
        return _read_nwpu(text, people)
    rows = _table(text, delimiter, people)
    width = next((len(row) for _, row in rows if len(row) > 1), 0)
    if _is_heading(rows[0][1]):
        rows = rows[1:]
    return _read_counts(rows, people) if width == 2 else _read_points(rows, people)


def _delimiter(text: str) -> str | None:
    """What stands between the columns of a CSV; None for NWPU text. The first line that is no name alone tells."""
    for line in text.splitlines():
        found = next((mark for mark in ",;\t" if mark in line), None)
        if found or len(line.split()) > 1:
            return found
    return None


def _table(text: str, delimiter: str, people: People) -> list[tuple[int, list[str]]]:
    """Line number and cells of the rows that are not blank."""
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader if "".join(row).strip()]
    except csv.Error as error:
        raise people.error(f"line {reader.line_num}", f"is not CSV ({error})") from error
    if not rows:
        raise people.error("line 1", "is the first of nothing but blank lines")
    return rows


def _read_counts(rows: Sequence[tuple[int, list[str]]], people: People) -> bool:
    people.located = False
    for line, row in rows:
        where = f"line {line}"
        if len(row) != 2:
            raise people.error(where, f"has {len(row)} columns, expected image,count")
        key = people.find(row[0])
        if key is not None and key in people.totals:
            raise people.error(where, f"gives {row[0]} a second count")
        if key is not None:
            people.totals[key] = count(row[1], people, where)
    return True


def _read_points(rows: Sequence[tuple[int, list[str]]], people: People) -> bool:
    for line, row in rows:
        where = f"line {line}"
        key = people.find(row[0])
        if "".join(row[1:]).strip():  # a name alone says that nobody was found
            if len(row) not in (3, 4):
                raise people.error(where, f"has {len(row)} columns, expected image,x,y or image,x,y,score")
            x, y = (number(value, people, where) for value in row[1:3])
            people.add(key, (x, y), score([*row, "1"][3], people, where))
    return False


def _read_nwpu(text: str, people: People) -> bool:
    for line, content in enumerate(text.splitlines(), 1):
        where, fields = f"line {line}", content.split()
        if not fields:
            continue
        values = [number(value, people, where) for value in fields[1:]]
        if not values or len(values) != 1 + 2 * values[0]:
            raise people.error(where, "is not 'image n' followed by n times 'x y'")
        key = people.find(fields[0])
        for x, y in zip(values[1::2], values[2::2], strict=True):
            people.add(key, (x, y))
    return True


def _is_heading(row: list[str]) -> bool:
    """Whether the row names columns: no number is behind the name, and something is."""
    name, second = [cell.strip() for cell in [*row, ""][:2]]
    return name.lower() in HEADINGS and bool(second) and not _is_number(second)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check(people: People, complete: bool) -> None:
    """Refuse a file about other images, and one that should list all images and does not."""
    if people.unknown:
        raise DataError(
            f"{people.file} names {len(people.unknown)} images that are not in the dataset ({_some(people.unknown)})."
            " Use the names of the image files."
        )
    missing = [sample.key for sample in people.wanted if sample.key not in people.listed]
    if missing and complete:
        raise DataError(
            f"{people.file} lacks {len(missing)} of the {len(people.wanted)} images to score ({_some(missing)})."
            " Add them or choose another split."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
