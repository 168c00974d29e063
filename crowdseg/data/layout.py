"""Finding files and folders, in a natural order and without hidden ones, and the splits that names speak of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from crowdseg.data.images import IMAGE_SUFFIXES

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key by which ``IMG_2`` comes before ``IMG_10``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def files_of(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files in ``folder`` with one of these lower-case suffixes, in natural order; hidden ones are left out."""
    wanted = set(suffixes)
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in wanted and not path.name.startswith(".")]
    except OSError:  # not there, not a folder, or not to be read
        return []
    return sorted((path for path in found if path.is_file()), key=lambda path: natural(path.name))


def images_of(folder: Path) -> list[Path]:
    return files_of(folder, IMAGE_SUFFIXES)


def images_below(folder: Path) -> list[Path]:
    """The images in ``folder`` and all its folders, except ``masks`` and what crowdseg wrote (it has a manifest)."""
    found = images_of(folder)
    for child in folders_of(folder):
        if child.name.lower() != "masks" and not (child / "manifest.json").exists():
            found += images_below(child)
    return found


def folders_of(folder: Path) -> list[Path]:
    """The visible folders in ``folder``, in natural order; none where it is no folder or may not be read."""
    try:
        found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []
    return sorted(found, key=lambda path: natural(path.name))


def subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of ``names`` that is a folder in ``folder``, whatever its case."""
    by_name = {path.name.lower(): path for path in folders_of(folder)}
    return next((by_name[name] for name in names if name in by_name), None)


def parts_of(root: Path, is_part: Callable[[Path], bool]) -> list[tuple[Path, str]]:
    """``(folder, split)`` of ``root`` where it is a part of a dataset, else of its folders named after splits."""
    if root.is_dir() and is_part(root):
        return [(root, split_of_root(root))]
    return [(folder, split) for folder in folders_of(root) if (split := split_of(folder.name)) and is_part(folder)]


def split_of(name: str) -> str | None:
    """The split that a folder's or file's name speaks of (``train_data``, ``stage1_test``, ``val2017``), if any."""
    return next((_SPLIT_WORDS[word] for word in _words(name) if word in _SPLIT_WORDS), None)


def split_of_root(root: Path) -> str:
    """The split of a dataset's own folder: ``train`` unless its name says nothing but another split.

    The user chose that name, and a folder ``test_of_crowds`` need not be a test split.
    """
    only_split = all(word in _SPLIT_WORDS or word in ("data", "images", "set", "stage") for word in _words(root.name))
    return (split_of(root.name) if only_split else None) or "train"


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.lower())
