"""``people.jsonl``: what was found in each image, a line as soon as it is known. The other files are made of it.

A line is written when all else of its image is, and never changed. So a command that was stopped, even killed, leaves
nothing to repair: what has a line is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np

from crowdseg import files, rle
from crowdseg.engine.image_files import JOURNAL
from crowdseg.errors import DataError, UsageError
from crowdseg.structures import Prediction

_PEOPLE = b', "people": '  # no text within JSON can look like this: its quotes would be escaped


class Journal:
    """The lines of a folder by their images' paths; of several of one image the last counts.

    Args:
        overwrite: begin without a line.

    Raises:
        WriteError: the file cannot be opened for writing. UsageError: another command is writing it. DataError: it is
            no journal.
    """

    def __init__(self, file: Path, *, overwrite: bool = False) -> None:
        self.file = file
        self._heads: dict[str, dict[str, Any]] = {}
        self._places: dict[str, int] = {}
        self._lines = 0
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = file.open("a+b")
        except OSError as error:
            raise files.cannot_write(file, error) from error
        try:
            _lock(self._stream, file.parent)
            if overwrite:
                self._stream.truncate(0)
            self._read()
        except BaseException:
            self._stream.close()
            raise

    def _read(self) -> None:
        self._stream.seek(0)
        place = 0
        for line in self._stream:
            if not line.endswith(b"\n"):
                self._stream.truncate(place)  # the writer was killed in the middle of this line
                break
            self._take(_head(line, self.file), place)
            place += len(line)

    def _take(self, head: dict[str, Any], place: int) -> None:
        self._heads[head["path"]], self._places[head["path"]] = head, place
        self._lines += 1

    @property
    def heads(self) -> dict[str, dict[str, Any]]:
        """All lines without their people, by path."""
        return self._heads

    def head(self, path: str) -> dict[str, Any] | None:
        """The image's line without its people, or None."""
        return self._heads.get(path)

    def record(self, path: str) -> dict[str, Any]:
        """The image's whole line."""
        self._stream.seek(self._places[path])
        return json.loads(self._stream.readline())

    def append(self, head: dict[str, Any], prediction: Prediction) -> None:
        """Add the line of ``head["path"]``; it is on its way to the disk when this returns."""
        height, width = prediction.size
        head = {**head, "height": height, "width": width, "count": _count(prediction), "masks": prediction.has_masks}
        text = json.dumps(head).encode()[:-1] + _PEOPLE + json.dumps(prediction.people()).encode() + b"}\n"
        try:
            place = self._stream.seek(0, 2)
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            raise files.cannot_write(self.file, error) from error
        self._take(head, place)

    def keep(self, wanted: Iterable[dict[str, Any]]) -> None:
        """Leave out all but the lines whose heads these are; they come to stand in this order, with what the heads say
        now. Nothing can be added then."""
        kept = list(wanted)
        if len(kept) == self._lines and kept == list(self._heads.values()):
            return
        with files.atomic(self.file) as temporary, temporary.open("wb") as stream:
            for head in kept:
                self._stream.seek(self._places[head["path"]])
                line = self._stream.readline()
                stream.write(json.dumps(head).encode()[:-1] + line[line.index(_PEOPLE) :])

    def close(self) -> None:
        """Close the file, and take it away where it holds nothing."""
        with suppress(OSError):  # a line that could not be written has been told of
            self._stream.close()
        if not self._lines:
            files.remove(self.file)


def paths_in(folder: Path) -> set[str]:
    """Of which images, or frames, the journal of a folder has lines; none where there is no journal."""
    file = folder / JOURNAL
    try:
        with file.open("rb") as stream:
            return {_head(line, file)["path"] for line in stream if line.endswith(b"\n")}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}). Write elsewhere with --out.") from error


def folder_for(base: Path, name: str, ours: Callable[[str], bool]) -> Path:
    """``base / name``, or the first of ``name-2``, ``name-3``, ... that does not hold results of other images alone.

    Args:
        ours: whether a path of a journal is one of the images, or frames, that are to be predicted.
    """
    for number in count(1):
        folder = base / (name if number == 1 else f"{name}-{number}")
        known = paths_in(folder)
        if not known or any(map(ours, known)):
            break
    return folder


def _lock(stream: IO[bytes], folder: Path) -> None:
    """Keep other commands from writing while the stream is open (where the system has such locks: not on Windows)."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"{folder} is being written by another command: wait for its end, or write elsewhere with --out."
        ) from error
    except OSError:  # a file system without locks
        return


def _head(line: bytes, file: Path) -> dict[str, Any]:
    """A line without its people, who are most of it."""
    try:
        head = json.loads(line[: line.index(_PEOPLE)] + b"}")
        return {**head, "path": str(head["path"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a record of predictions. Delete it, or write elsewhere with --out.") from error


def identity(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a result depends on: the file as it is now, None where it is not there, and a digest of the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    try:
        state = path.stat()
    except OSError:
        return {"path": str(path), "bytes": None, "mtime_ns": None, "settings": digest}
    return {"path": str(path), "bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "settings": digest}


def prediction_of(record: dict[str, Any]) -> Prediction:
    """What a line says, points to a thousandth of a pixel."""
    size, people = (record["height"], record["width"]), record["people"]
    return Prediction(
        size,
        np.array([person["point"] for person in people], np.float64).reshape(-1, 2),
        np.array([person["score"] for person in people], np.float32),
        rles=[rle.from_coco(person["segmentation"], size) for person in people] if record["masks"] else None,
        total=None if record["count"] == len(people) else record["count"],
    )


def _count(prediction: Prediction) -> float:
    return len(prediction.points) if prediction.total is None else float(prediction.total)
