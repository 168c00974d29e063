"""Writing files whole or not at all, and label maps as PNG."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowdseg.errors import DISK_FULL, DataError, WriteError
from crowdseg.structures import LabelMap

_PNG_END = bytes.fromhex("0000000049454e44ae426082")  # the last chunk of every whole PNG

RUNS = Path("runs")  # under the current folder: everything that commands write unless told where


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that takes its place when the block ends without an error.

    Raises:
        WriteError: it cannot be written; nothing is left of it.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=path.suffix)
    except OSError as error:
        raise cannot_write(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C does nothing while the block runs: another one, by who has pressed it once, would cost what it saves."""
    if threading.current_thread() is not threading.main_thread():  # the only one that is interrupted
        yield
        return
    before = {kind: signal.signal(kind, signal.SIG_IGN) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def cannot_write(path: Path, error: OSError) -> WriteError:
    """The error for the user of a file that the system refuses to write."""
    advice = "Free some space and run again." if error.errno in DISK_FULL else "Choose another folder or name."
    return WriteError(f"Cannot write {path}: {error.strerror or error}. {advice}")


def remove(path: Path) -> None:
    """Delete a file if it is there; WriteError where that is not permitted."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"Cannot delete {path}: {error.strerror}. Choose another folder.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, *, indent: int | None = 2) -> None:
    write_text(path, json.dumps(content, indent=indent) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON ({error}). Restore or delete it.") from error


def sha256(path: Path) -> str:
    """Digest of a file of any size, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """``(H, W, 3)`` RGB as the image file that the suffix says."""
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, quality=92)


def write_label_map(path: Path, labels: LabelMap) -> None:
    """``(H, W)`` labels as a 16-bit grey PNG; above 65,535 as RGBA, the four bytes one little-endian label."""
    if labels.size and labels.max() > 0xFFFF:
        little_endian = np.ascontiguousarray(labels, "<u4")
        image = Image.fromarray(little_endian.view(np.uint8).reshape(*labels.shape, 4), mode="RGBA")
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    with atomic(path) as temporary:
        image.save(temporary, format="PNG")


def label_map_size(path: Path) -> tuple[int, int]:
    """(H, W) of a label map that :func:`write_label_map` wrote, without decoding it: many are asked in a second.

    Raises:
        DataError: it is no PNG, or is cut off.
    """
    try:
        with Path(path).open("rb") as file, Image.open(file, formats=["PNG"]) as image:
            width, height = image.size
            file.seek(-len(_PNG_END), os.SEEK_END)
            if file.read() != _PNG_END:
                raise ValueError("it is cut off")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} is not a readable label map ({error}).") from error
    return height, width


def read_label_map(path: Path) -> LabelMap:
    """Inverse of :func:`write_label_map`; also reads 8-bit, palette and ``.npy`` label maps."""
    try:
        if Path(path).suffix == ".npy":
            return np.load(path, allow_pickle=False).astype(np.int32)
        with Image.open(path) as image:
            array = np.asarray(image)
            if image.mode == "RGBA":
                return np.ascontiguousarray(array).view("<u4")[..., 0].astype(np.int32)
            if array.ndim != 2:
                raise ValueError(f"expected one channel, got {image.mode}")
            return array.astype(np.int32)
    except (EOFError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} is not a readable label map ({error}).") from error
