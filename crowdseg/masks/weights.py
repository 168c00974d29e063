"""The official weights of segment-anything: downloaded once, checked, kept in one folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from crowdseg import files
from crowdseg.errors import SetupError, UsageError

_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"
_CHUNK = 1 << 20  # bytes
_PATIENCE = 30.0  # seconds without a byte
_GLANCE = 0.5  # seconds between looks at what another process downloads

Tick = Callable[[str, int, int], None]  # the file's name, bytes that are there, of how many


@dataclass(frozen=True)
class Weights:
    """A file of weights: its address, its size in bytes, its SHA-256 in hexadecimal digits."""

    url: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


OFFICIAL = {
    "vit_b": Weights(
        _ADDRESS + "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": Weights(
        _ADDRESS + "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": Weights(
        _ADDRESS + "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}


def official(name: str) -> Weights:
    """The weights of ``vit_b``, ``vit_l`` or ``vit_h``; UsageError for another name."""
    if name not in OFFICIAL:
        raise UsageError(f"There is no SAM model {name!r}: choose {', '.join(OFFICIAL)}.")
    return OFFICIAL[name]


def home() -> Path:
    """Where downloads are kept: ``CROWDSEG_HOME``, else ``~/.cache/crowdseg``."""
    return Path(os.environ.get("CROWDSEG_HOME") or Path.home() / ".cache" / "crowdseg").expanduser()


def fetch(weights: Weights, tick: Tick | None = None) -> Path:
    """The file in :func:`home`; downloaded first if it is not there, going on where an earlier download stopped.

    Raises:
        SetupError: it cannot be downloaded or kept, or is not the file it should be.
    """
    path = home() / weights.file
    if not path.is_file():
        _fetch_to(path, weights, tick)
    if (size := path.stat().st_size) != weights.size:
        raise SetupError(f"{path} is damaged ({size:,} bytes, not {weights.size:,}): delete it and run again.")
    return path


def _fetch_to(path: Path, weights: Weights, tick: Tick | None) -> None:
    """Download, check, and put in place; a process that comes second waits for the first one."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part, weights, tick):
            if path.is_file():  # now
                return
            _download(weights, part, tick)
            intact = files.sha256(part) == weights.sha256
            part.replace(path) if intact else part.unlink()
    except (OSError, HTTPException) as error:
        reason = error.reason if type(error) is URLError else error
        raise SetupError(
            f"Cannot download {weights.url} to {path} ({reason}): run again, which goes on where it stopped, or get "
            f"the file by other means and put it there; without weights there is --segmenter superpixel."
        ) from error
    if not intact:
        raise SetupError(
            f"What {weights.url} gave is not {weights.file} (its SHA-256 differs) and was deleted: run again, or get "
            f"the file by other means and put it at {path}."
        )


@contextmanager
def _alone(part: Path, weights: Weights, tick: Tick | None) -> Iterator[None]:
    """For one process at a time, the others watch the file grow. The system frees the lock of a process that died."""
    lock = FileLock(part.with_suffix(".lock"))
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_GLANCE)
        except Timeout:
            if tick is not None:
                tick(weights.file, part.stat().st_size if part.exists() else 0, weights.size)
    try:
        yield
    finally:
        lock.release()


def _download(weights: Weights, part: Path, tick: Tick | None) -> None:
    """Fill ``part`` up to the file's size."""
    start = part.stat().st_size if part.exists() else 0
    if start >= weights.size:  # stopped before it was checked
        return
    request = Request(weights.url, headers={"Range": f"bytes={start}-"} if start else {})
    with urlopen(request, timeout=_PATIENCE) as response:
        start = start if response.status == 206 else 0  # a server that knows no ranges sends the file from its start
        offered = int(response.headers.get("Content-Length", weights.size - start)) + start
        if offered != weights.size:  # a notice in place of the file, as some networks send
            raise ConnectionError(f"the server offers {offered:,} bytes, not {weights.size:,}")
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                if tick is not None:
                    tick(weights.file, file.tell(), weights.size)
    if (got := part.stat().st_size) < weights.size:
        raise ConnectionError(f"the connection ended after {got:,} of {weights.size:,} bytes")
