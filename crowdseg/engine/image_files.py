"""From what a user names (files, folders, patterns) to image files."""

from __future__ import annotations

import glob
import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crowdseg.data import IMAGE_SUFFIXES
from crowdseg.data.base import natural
from crowdseg.errors import UsageError
from crowdseg.files import RUNS

STDIN = "-"
JOURNAL = "people.jsonl"  # lies in every folder of predictions (crowdseg.report.journal),
PICTURES = ("masks", "overlays")  # beside the folders of pictures


@dataclass(frozen=True)
class NamedImage:
    """An image file, and its path below the folder that all of them share, with ``/``; letters of it that are no text
    (names of another encoding) are replaced."""

    path: Path
    name: str


def find_images(sources: Iterable[str | Path], left_out: list[Path] | None = None) -> list[NamedImage]:
    """The images of files, folders (searched with their subfolders), patterns such as ``photos/*.jpg``, and of ``-``.

    ``-`` stands for the paths that stdin lists, one a line, or ended by zero bytes as ``find -print0`` does. What such
    a list or a folder holds that is not there, or may not be read, is an image like any other, so that it does not stop
    the rest. What crowdseg itself has written below a folder or pattern is no photograph.

    Args:
        left_out: gets the folders of such results.

    Returns:
        Each path once, in natural order of the names (``IMG_2`` before ``IMG_10``).

    Raises:
        UsageError: a source is a URL, is not there or holds no images.
    """
    found: dict[Path, None] = {}
    left_out = [] if left_out is None else left_out
    for source in sources:
        try:
            paths = list(_listed(left_out) if str(source) == STDIN else _images_of(str(source), left_out))
        except PermissionError as error:
            raise UsageError(f"{error.filename} may not be read: change its permissions.") from error
        if not paths:
            beside = ", the results of crowdseg left out" if left_out else ""
            raise UsageError(f"{source} holds no images ({' '.join(sorted(IMAGE_SUFFIXES))}){beside}.")
        found |= dict.fromkeys(map(_absolute, paths))
    base = os.path.commonpath([path.parent for path in found]) if found else "."
    named = [NamedImage(path, as_text(path.relative_to(base).as_posix())) for path in found]
    return sorted(named, key=lambda image: natural(image.name))


def as_text(name: str) -> str:
    """A file's name without what cannot be written as UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _absolute(path: Path) -> Path:
    """Without ``..``, which would lead out of the folders that results are named by."""
    return path.parent.resolve() / path.name if ".." in path.parts else path.absolute()


def _listed(left_out: list[Path]) -> Iterator[Path]:
    text = os.fsdecode(sys.stdin.buffer.read())  # as file names are, whatever their encoding
    paths = [line for line in (text.split("\0") if "\0" in text else text.splitlines()) if line.strip()]
    if not paths:
        raise UsageError("- takes a list of images from stdin, and it is empty. Pipe one in, such as that of find.")
    for path in paths:
        missing = not os.path.lexists(path) and not _is_url(path)
        yield from [Path(path)] if missing else _images_of(path, left_out)


def _is_url(source: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]+://", source, re.IGNORECASE) is not None


def _images_of(source: str, left_out: list[Path]) -> Iterator[Path]:
    if not source.strip():
        raise UsageError("A source is empty text. Name an image, a folder of images or a pattern in quotes.")
    if _is_url(source):
        raise UsageError(f"{source} is a URL, and crowdseg reads files alone. Download it and name the file.")
    path = Path(source)
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from _below(path, left_out)
    elif glob.has_magic(source):
        matches = map(Path, glob.glob(source, recursive=True))  # noqa: PTH207, Path.glob refuses absolute patterns
        fixed = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        yield from (match for match in matches if _is_image(match) and not _is_result(match, fixed, left_out))
    else:
        raise UsageError(f"{source} is not there. Name an image, a folder of images or a pattern in quotes.")


def _below(folder: Path, left_out: list[Path]) -> Iterator[Path]:
    """The images of a folder and its subfolders, and the subfolders that may not be read."""
    refused: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=refused.append):
        kept = []
        for name in folders:
            if not name.startswith(".") and not _holds_results(Path(place, name), left_out):
                kept.append(name)
        folders[:] = kept
        yield from (path for path in (Path(place, name) for name in names) if _is_image(path))
    yield from (Path(error.filename) for error in refused)


def _is_image(path: Path) -> bool:
    """Also one that cannot be opened, so that it is told of."""
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
        return False
    try:
        return path.is_file() or not path.exists()
    except PermissionError:
        return True


def _is_result(path: Path, fixed: Path, left_out: list[Path]) -> bool:
    """Whether a file lies in results below the folder ``fixed``."""
    between = itertools.takewhile(lambda parent: parent != fixed, path.parents)
    return any(_holds_results(parent, left_out) for parent in between)


def _holds_results(folder: Path, left_out: list[Path]) -> bool:
    """Whether crowdseg wrote the folder: the one under which all commands write, or pictures beside a record."""
    try:
        pictures = folder.name in PICTURES and (folder.parent / JOURNAL).exists()
    except PermissionError:
        return False
    written = pictures or folder.absolute() == RUNS.absolute()
    if written and folder not in left_out:
        left_out.append(folder)
    return written
