"""Any images with a ``points.csv``: a header ``image,x,y`` (and optionally ``split``), one row per head.

Image names are file names or paths below the folder, with or without extension. An image without a row is annotated
with nobody; a row with a name and no coordinates says the same (and can carry its split).
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from crowdseg.data.base import SPLITS, Annotation, Collector, Dataset, Reader
from crowdseg.data.images import IMAGE_SUFFIXES
from crowdseg.data.layout import images_below, split_of
from crowdseg.errors import DataError
from crowdseg.structures import Size

_FILE = "points.csv"
_COLUMNS = ("image", "x", "y")
_ODD_ROWS = 5  # rows that are reported one by one


def matches(root: Path) -> bool:
    return _table(root).is_file()


def read(root: Path) -> Dataset:
    table = _table(root)
    collector = Collector(table.parent)
    images = images_below(table.parent)
    by_name = _by_name(table.parent, images)
    rows: dict[Path, list[tuple[float, float]]] = {image: [] for image in images}
    splits: dict[Path, str] = {}
    odd: dict[str, list[int]] = defaultdict(list)
    for line, row in _rows(table):
        name = Path(row["image"].replace("\\", "/")).as_posix()
        found = by_name.get(name) or by_name.get(_bare(name)) or []
        if len(found) != 1:
            odd[f"{row['image']!r} " + ("fits several images" if found else "is not among the images")].append(line)
            continue
        if row["x"] or row["y"]:
            if point := _point(row):
                rows[found[0]].append(point)
            else:
                odd["x and y are not numbers"].append(line)
        _note_split(splits, found[0], row.get("split", ""), odd, line)
    for message, lines in odd.items():
        more = f" and {len(lines) - _ODD_ROWS} more" if len(lines) > _ODD_ROWS else ""
        collector.defect(table, f"line {', '.join(map(str, lines[:_ODD_ROWS]))}{more}: {message}")
    for image in images:
        annotation = Annotation(np.array(rows[image], np.float64).reshape(-1, 2))
        folder = image.relative_to(table.parent).parent.as_posix()
        split = splits.get(image) or split_of(folder) or "train"
        if sample := collector.add(image, split, partial(_given, annotation)):
            sample.annotation = table
    return collector.dataset("images and points.csv")


def _point(row: dict[str, str]) -> tuple[float, float] | None:
    try:
        x, y = float(row["x"]), float(row["y"])
    except ValueError:
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None


def _given(annotation: Annotation, size: Size) -> Annotation:
    return annotation


def _table(root: Path) -> Path:
    return root if root.name == _FILE else root / _FILE


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """``(line number, row)`` with lower-case column names and stripped values; a table without header raises."""
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} is not a readable table ({error}).") from error
    header = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=max(",;\t", key=header.count))
    columns = [name.strip().lower() for name in next(reader, [])]
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise DataError(f"The first line of {table} must be the header image,x,y; it lacks {', '.join(missing)}.")
    for values in reader:
        if any(value.strip() for value in values):
            padded = [value.strip() for value in values] + [""] * len(columns)
            yield reader.line_num, dict(zip(columns, padded, strict=False))


def _note_split(splits: dict[Path, str], image: Path, word: str, odd: dict[str, list[int]], line: int) -> None:
    if not word:
        return
    split = split_of(word)
    if split is None:
        odd[f"split {word!r} is none of {', '.join(SPLITS)}"].append(line)
    elif splits.setdefault(image, split) != split:
        odd[f"{image.name} is in two splits"].append(line)


def _by_name(root: Path, images: list[Path]) -> dict[str, list[Path]]:
    """Path below the root, and bare name, both without extension and with it -> images."""
    found: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        relative = image.relative_to(root).as_posix()
        for name in {relative, image.name, _bare(relative), _bare(image.name)}:
            found[name].append(image)
    return found


def _bare(name: str) -> str:
    path = Path(name)
    return (path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).as_posix()


READER = Reader("your own: images and a points.csv with the header image,x,y", matches, read)
