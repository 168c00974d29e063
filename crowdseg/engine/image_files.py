"""From what a user names (files, folders, patterns) to image files."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crowdseg.data import IMAGE_SUFFIXES
from crowdseg.data.base import natural
from crowdseg.errors import UsageError

STDIN = "-"


@dataclass(frozen=True)
class NamedImage:
    """An image file, and its path below the folder that all of them share, with ``/``; letters of it that are no text
    (names of another encoding) are replaced."""

    path: Path
    name: str


def find_images(sources: Iterable[str | Path]) -> list[NamedImage]:
    """The images of files, folders (searched with their subfolders), patterns such as ``photos/*.jpg``, and of ``-``.

    ``-`` stands for the paths that stdin lists, one a line, or ended by zero bytes as ``find -print0`` does. Of such a
    list a file that is not there is an image like any other, so that it does not stop the rest.

    Returns:
        Each path once, in natural order of the names (``IMG_2`` before ``IMG_10``).

    Raises:
        UsageError: a source is a URL, is not there or holds no images.
    """
    found: dict[Path, None] = {}
    for source in sources:
        paths = list(_listed() if str(source) == STDIN else _images_of(str(source)))
        if not paths:
            raise UsageError(f"{source} holds no images ({' '.join(sorted(IMAGE_SUFFIXES))}).")
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


def _listed() -> Iterator[Path]:
    text = os.fsdecode(sys.stdin.buffer.read())  # as file names are, whatever their encoding
    paths = [line for line in (text.split("\0") if "\0" in text else text.splitlines()) if line.strip()]
    if not paths:
        raise UsageError("- takes a list of images from stdin, and it is empty. Pipe one in, such as that of find.")
    for path in paths:
        yield from [Path(path)] if not os.path.lexists(path) and not _is_url(path) else _images_of(path)


def _is_url(source: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]+://", source, re.IGNORECASE) is not None


def _images_of(source: str) -> Iterator[Path]:
    if _is_url(source):
        raise UsageError(f"{source} is a URL, and crowdseg reads files alone. Download it and name the file.")
    path = Path(source)
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (child for child in path.rglob("*") if _is_image(child.relative_to(path)) and child.is_file())
    elif glob.has_magic(source):
        matches = map(Path, glob.glob(source, recursive=True))  # noqa: PTH207, Path.glob refuses absolute patterns
        yield from (match for match in matches if _is_image(Path(match.name)) and match.is_file())
    else:
        raise UsageError(f"{source} is not there. Name an image, a folder of images or a pattern in quotes.")


def _is_image(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden
