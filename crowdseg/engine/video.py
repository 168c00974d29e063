"""Videos and camera streams frame by frame, by PyAV: the extra ``[video]``, imported when a video is opened."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np
from numpy.typing import NDArray

from crowdseg.errors import DataError, SetupError, UsageError
from crowdseg.report.console import progress
from crowdseg.structures import Prediction

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
)
STREAMS = frozenset({"rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"})
_TIMEOUT = (20.0, 20.0)  # seconds that a camera may take to answer, and for each frame


@dataclass(frozen=True)
class Frame:
    """A frame, upright: its number from 0, when it is shown in seconds, and ``(H, W, 3)`` uint8 RGB."""

    number: int
    seconds: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class PredictedVideo:
    """What :func:`predict_video` found.

    Attributes:
        counts: (number, seconds, people) of every frame that was done.
        broken: parts of the video that could not be decoded.
    """

    counts: list[tuple[int, float, float]]
    broken: int


class Video:
    """An open video; made by :func:`open_video`. Iterated over once.

    Attributes:
        source: as it may be shown: a camera's address without user and password.
        file: the absolute path; None of a camera.
        rate: frames a second, as the file says.
        length: number of frames, None where it is not known.
        broken: parts that could not be decoded so far.
    """

    def __init__(self, source: str, container: Any) -> None:
        self.source, self._container = public_name(source), container
        self.file = None if is_stream(source) else Path(source).absolute()
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.length: int | None = stream.frames or None
        self.broken = 0

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """The first of every ``every`` frames. Parts that cannot be decoded are passed over and counted."""
        begin = 0.0
        for number, frame in enumerate(self._decoded()):
            if number == 0 and self.file is None:
                begin = frame.time or 0.0  # a camera's clock may run since it was switched on
            if number % every == 0:
                seconds = float(number / self.rate) if frame.time is None else frame.time - begin
                turns = round(getattr(frame, "rotation", 0) / 90) % 4  # of a telephone held upright
                pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                yield Frame(number, round(seconds, 6), pixels)

    def _decoded(self) -> Iterator[Any]:
        import av

        packets = self._container.demux(video=0)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                decoded = packet.decode()
            except av.error.EOFError:
                return
            except av.FFmpegError as error:
                self.broken += 1
                if not isinstance(error, av.error.InvalidDataError):  # the file or the camera is gone
                    return
            else:
                yield from decoded


def is_video(source: str) -> bool:
    """Whether a source is a camera, or a file named like a video; a folder may be named so too."""
    path = Path(source)
    named = "://" not in source and path.suffix.lower() in VIDEO_SUFFIXES
    return is_stream(source) or (named and not path.is_dir())


def is_stream(source: str) -> bool:
    """Whether a source is a camera: it cannot be gone back in, and may never end."""
    return is_device(source) or ("://" in source and source.partition("://")[0].lower() in STREAMS)


def is_device(source: str) -> bool:
    """Whether a source is a camera of this machine, as Linux names them."""
    return re.fullmatch(r"/dev/video\d+", os.path.realpath(source)) is not None


def public_name(source: str) -> str:
    """The source as it may be shown and written down: an address without user and password."""
    if "://" not in source:
        return source
    parts = address(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def address(source: str) -> SplitResult:
    """The parts of a camera's address; UsageError where it has none."""
    try:
        return urlsplit(source)
    except ValueError as error:
        shown = re.sub("//.*@", "//", source)  # without user and password
        raise UsageError(f"{shown} is not an address ({error}). Name it as in rtsp://10.0.0.7:554/live.") from error


@contextmanager
def open_video(source: str) -> Iterator[Video]:
    """The video of a file or of a camera (``rtsp://...`` and the like, or ``/dev/video0``).

    Raises:
        SetupError: PyAV is not installed. UsageError: there is no such file or camera. DataError: it is no video, or
            the camera does not answer.
    """
    try:
        import av
    except ImportError as error:
        raise SetupError("Videos need the package av: install it with `pip install 'crowdseg[video]'`.") from error
    shown = public_name(source)
    if is_device(source):
        if not Path(source).exists():
            raise UsageError(f"{shown} is not there. Plug the camera in, or name another one of /dev/video*.")
        options: dict[str, Any] = {"format": "v4l2", "timeout": _TIMEOUT}
        advice = "Check that no other program uses it, and that you may (group video)."
    elif is_stream(source):
        options, advice = {"timeout": _TIMEOUT}, "Check the address."
    elif Path(source).is_file():
        options, advice = {}, "Replace it, or convert it with ffmpeg."
    elif found := sorted(glob.glob(source)):  # noqa: PTH207, Path.glob refuses absolute patterns
        raise UsageError(f"{shown} is a pattern: videos are named one at a time. Name one, as {found[0]}.")
    else:
        raise UsageError(f"{shown} is not there. Name a video file, one at a time.")
    try:
        container = av.open(source, **options)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"{shown} is not a readable video ({reason}). {advice}") from error
    with container:
        if not container.streams.video:
            raise DataError(f"{shown} holds no pictures. Name a video file.")
        yield Video(source, container)


def predict_video(
    model: Any,
    video: Video,
    receive: Callable[[Prediction, Frame], None],
    *,
    every: int = 1,
    known: Callable[[Frame], Prediction | None] = lambda frame: None,
    **options: Any,
) -> PredictedVideo:
    """Predict the first of every ``every`` frames and hand it on; only one is in memory at a time.

    Args:
        model: what :func:`crowdseg.load` gives.
        receive: called with each prediction and its frame.
        known: the prediction of a frame that was done before, else None.
        **options: handed to ``model.predict``.

    Raises:
        DataError: not one frame could be decoded.
    """
    counts: list[tuple[int, float, float]] = []
    with progress() as bar:
        task = bar.add_task("Predicting", total=video.length and -(-video.length // every))
        for frame in video.frames(every):
            prediction = known(frame) or model.predict(frame.pixels, **options)
            prediction.key = str(frame.number)
            receive(prediction, frame)
            counts.append((frame.number, frame.seconds, prediction.count))
            bar.advance(task)
    if not counts:
        raise DataError(f"{video.source} holds no frame that can be decoded. Replace it, or convert it with ffmpeg.")
    return PredictedVideo(counts, video.broken)
