"""From what a user names (files, folders, patterns) to image files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crowdseg.data import IMAGE_SUFFIXES
from crowdseg.data.base import natural
from crowdseg.errors import UsageError


@dataclass(frozen=True)
class NamedImage:
    """An image file, and its path below the folder that all of them share, with ``/``."""

    path: Path
    name: str


def find_images(sources: Iterable[str | Path]) -> list[NamedImage]:
    """The images of files, folders (searched with their subfolders) and patterns such as ``photos/*.jpg``.

    Returns:
        Each file once, in natural order of the names (``IMG_2`` before ``IMG_10``).

    Raises:
        UsageError: a source is not there or holds no images.
    """
    found: dict[Path, None] = {}
    for source in sources:
        paths = list(_images_of(str(source)))
        if not paths:
            raise UsageError(f"{source} holds no images ({' '.join(sorted(IMAGE_SUFFIXES))}).")
        found |= dict.fromkeys(path.absolute() for path in paths)
    base = os.path.commonpath([path.parent for path in found]) if found else "."
    named = [NamedImage(path, path.relative_to(base).as_posix()) for path in found]
    return sorted(named, key=lambda image: natural(image.name))


def _images_of(source: str) -> Iterator[Path]:
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
