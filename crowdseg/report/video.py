"""The files of ``crowdseg predict VIDEO``: counts over time as a table and a plot, and a video of what was found."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from crowdseg import files
from crowdseg.engine.video import Frame, PredictedVideo, Video
from crowdseg.errors import WriteError
from crowdseg.report.formats import show_count
from crowdseg.report.journal import JOURNAL, Journal, identity, prediction_of
from crowdseg.report.overlay import draw_overlay
from crowdseg.structures import Prediction

OVERLAY = "overlay.mp4"
_CLOCK = 60_000  # ticks a second in the overlay video: whole numbers of them for 24, 25, 29.97, 30 and 60 frames

Counts = Sequence[tuple[int, float, float]]  # number of the frame, seconds, people


class VideoWriter:
    """Writes the frames of one video into a folder as they come; made by :meth:`open`.

    Attributes:
        kept: frames whose people were known from before.
    """

    def __init__(
        self, folder: Path, video: Video, layers: Sequence[str], settings: dict[str, Any], overwrite: bool
    ) -> None:
        self.kept = 0
        self._folder, self._video, self._layers = folder, video, layers
        place = video.file or Path(video.source)
        self._identity = {**identity(place, settings), "path": str(video.file or video.source)}
        self._journal = Journal(folder / JOURNAL, overwrite=overwrite)
        for left in folder.glob(f".{Path(OVERLAY).stem}-????????.mp4"):  # by a writer that was killed: no other is here
            files.remove(left)
        self._counts: list[tuple[int, float, float]] = []
        self._pictures: _Encoder | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        video: Video,
        layers: Sequence[str] = ("points", "masks"),
        *,
        settings: dict[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Iterator[VideoWriter]:
        """A writer into ``folder``, which is made if needed.

        When the block ends, or is interrupted, ``counts.csv``, ``counts.png`` and, with ``layers``, ``overlay.mp4``
        hold the frames that were done; ``people.jsonl`` has a line for each.

        Args:
            layers: of :data:`crowdseg.report.overlay.LAYERS`; without any there is no overlay video.
            settings: what results depend on besides the frame; those of other settings are not kept.
            overwrite: keep nothing of what is there.
        """
        folder, stopped = Path(folder), None
        made = not folder.exists()
        # Of a stream nothing is kept: its frames are numbered anew.
        writer = cls(folder, video, layers, settings or {}, overwrite or video.file is None)
        with ExitStack() as finishing:
            try:
                with writer._overlay():
                    try:
                        yield writer
                    except KeyboardInterrupt as error:
                        if not writer._counts:
                            raise
                        finishing.enter_context(files.uninterrupted())
                        stopped = error  # what was done is whole, so it takes its place
                writer._finish(complete=stopped is None)
            finally:
                writer._journal.close()
                if made and not writer._counts:
                    with suppress(OSError):  # it holds something
                        folder.rmdir()
        if stopped is not None:
            raise stopped

    def add(self, prediction: Prediction, frame: Frame) -> None:
        """Write one frame."""
        if self._pictures is not None:
            masks = prediction.masks() if prediction.has_masks else None
            picture = draw_overlay(frame.pixels, masks, prediction.points, layers=self._layers)
            try:
                self._pictures.add(picture, frame.seconds)
            except OSError as error:
                raise files.cannot_write(self._folder / OVERLAY, error) from error
        head = {**self._head(frame), "seconds": frame.seconds}
        if not self._is_known(head):
            self._journal.append(head, prediction)
        self._counts.append((frame.number, frame.seconds, prediction.count))

    def known(self, frame: Frame) -> Prediction | None:
        """The prediction of a frame of this file and these settings, or None."""
        head = self._head(frame)
        if not self._is_known(head):
            return None
        self.kept += 1
        return prediction_of(self._journal.record(head["path"]))

    def _head(self, frame: Frame) -> dict[str, Any]:
        return {**self._identity, "path": f"{self._identity['path']}#{frame.number}", "frame": frame.number}

    def _is_known(self, head: dict[str, Any]) -> bool:
        known = self._journal.head(head["path"])
        return known is not None and head.items() <= known.items()

    @contextmanager
    def _overlay(self) -> Iterator[None]:
        if not self._layers:
            yield
            return
        foreign = None  # an error of what is read or computed: not one of this file, as it would seem to be
        try:
            with files.atomic(self._folder / OVERLAY) as temporary:
                self._pictures = _Encoder(temporary, self._video.rate)
                try:
                    yield
                except OSError as error:
                    foreign = error
                    raise
                finally:
                    self._pictures.close()
        except WriteError:
            if foreign is not None:
                raise foreign from None
            raise

    def _finish(self, complete: bool) -> None:
        write_counts(self._folder / "counts.csv", self._counts)
        draw_counts(self._folder / "counts.png", self._counts, Path(self._video.source).name)
        if complete:
            self._journal.keep(
                self._journal.heads[f"{self._identity['path']}#{number}"] for number, _, _ in self._counts
            )


class _Encoder:
    """Pictures into an MP4 file, each shown from its own time on: H.264 where PyAV has it, else MPEG-4."""

    def __init__(self, file: Path, rate: Fraction) -> None:
        import av

        self._container = av.open(str(file), "w", format="mp4")
        self._rate, self._stream = rate, None  # type: tuple[Fraction, Any]
        self._first, self._last = 0.0, -1

    def add(self, picture: NDArray[np.uint8], seconds: float) -> None:
        """``(H, W, 3)`` RGB; an odd side gets a black line, and a size unlike the first is brought to that."""
        import av

        height, width = picture.shape[:2]
        if self._stream is None:
            self._stream, self._first = self._start(height + height % 2, width + width % 2), seconds
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)))
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame = frame.reformat(self._stream.width, self._stream.height, "yuv420p")
        self._last = max(self._last + 1, round((seconds - self._first) * _CLOCK))
        frame.pts, frame.time_base = self._last, Fraction(1, _CLOCK)
        self._container.mux(self._stream.encode(frame))

    def _start(self, height: int, width: int) -> Any:
        import av

        h264 = "libx264" in av.codecs_available
        stream = self._container.add_stream("libx264" if h264 else "mpeg4", rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, _CLOCK)
        if h264:
            stream.options = {"crf": "20", "preset": "veryfast"}
        return stream

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def write_counts(file: Path, counts: Counts) -> None:
    """``frame,seconds,count``."""
    with files.atomic(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["frame", "seconds", "count"])
        rows.writerows((number, f"{seconds:.3f}", show_count(count)) for number, seconds, count in counts)


def draw_counts(file: Path, counts: Counts, name: str) -> None:
    """People over time, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seconds, people = np.array(counts, float)[:, 1:].T
    minutes = seconds.max() > 600
    figure = Figure(figsize=(9, 3.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.step(seconds / 60 if minutes else seconds, people, where="post", marker="." if len(people) < 60 else None)
    axes.set(xlabel="minutes" if minutes else "seconds", ylabel="people", ylim=(0, max(1.0, people.max() * 1.1)))
    axes.set_title(
        f"{name} · on average {people.mean():.1f}, at most {show_count(people.max())}", loc="left", fontsize=11
    )
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    with files.atomic(file) as temporary:
        figure.savefig(temporary, format="png")


def table(result: PredictedVideo) -> Table:
    """What a reader wants of the counts over time, for the terminal."""
    people = [count for _, _, count in result.counts]
    most, fewest = (choose(result.counts, key=lambda row: row[2]) for choose in (max, min))
    grid = Table(show_header=False)
    grid.add_row("frames", str(len(people)))
    grid.add_row("people on average", f"{sum(people) / len(people):.1f}")
    grid.add_row("most", f"{show_count(most[2])} at {most[1]:.1f} s")
    grid.add_row("fewest", f"{show_count(fewest[2])} at {fewest[1]:.1f} s")
    return grid


def lines(result: PredictedVideo) -> str:
    """``frame<TAB>seconds<TAB>count`` for programs to read."""
    return "".join(f"{number}\t{seconds:.3f}\t{show_count(count)}\n" for number, seconds, count in result.counts)


def document(result: PredictedVideo, video: str) -> dict[str, Any]:
    """The counts as JSON."""
    frames = [{"frame": number, "seconds": seconds, "count": count} for number, seconds, count in result.counts]
    return {"video": video, "frames": frames, "broken": result.broken}
