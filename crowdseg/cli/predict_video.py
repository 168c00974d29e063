"""``crowdseg predict`` of a video or a camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from crowdseg.engine import Model
    from crowdseg.engine.video import PredictedVideo


def refuse(sources: list[str], options: dict[str, bool]) -> None:
    """Refuse more than one source, an address that is none, and options that were given and are not for videos.

    Args:
        options: name -> whether it was given.
    """
    from crowdseg.engine.video import public_name
    from crowdseg.errors import UsageError

    if len(sources) > 1:
        raise UsageError(
            f"{len(sources)} sources are named, a video among them: name one video at a time, and no images."
        )
    if given := [name for name, is_given in options.items() if is_given]:
        raise UsageError(f"{given[0]} is for images: leave it out for a video.")
    public_name(sources[0])  # refuses what is no address


def predict_video(
    model: Model,
    source: str,
    folder: Path,
    layers: tuple[str, ...],
    *,
    every: int,
    keeping: dict[str, Any],
    as_json: bool,
    options: dict[str, Any],
) -> None:
    """Predict a video, show its counts and write its files into ``folder``.

    Args:
        keeping: ``settings`` and ``overwrite`` of the writer.
        options: of ``model.predict``.
    """
    from crowdseg.engine.video import open_video
    from crowdseg.engine.video import predict_video as predict_video_
    from crowdseg.errors import PartialFailure
    from crowdseg.report.console import err
    from crowdseg.report.video import VideoWriter

    with (
        open_video(source) as video,
        VideoWriter.open(folder, video, layers, **keeping) as writer,
    ):
        result = predict_video_(model, video, writer.add, every=every, known=writer.known, **options)
    _print(result, video.source, as_json)
    if writer.kept:
        err.print(f"{writer.kept} of {len(result.counts)} frames were done before; --overwrite does them anew")
    err.print(f"{model.name}: written to {folder}", highlight=False, markup=False)
    if result.broken:
        parts = f"{result.broken} part{'s' * (result.broken > 1)} of {video.source}"
        raise PartialFailure(f"{parts} could not be decoded; the rest was done.")


def _print(result: PredictedVideo, source: str, as_json: bool) -> None:
    import json

    from crowdseg.report import video
    from crowdseg.report.console import out

    if as_json:
        typer.echo(json.dumps(video.document(result, source), indent=2))
    elif out.is_terminal:
        out.print(video.table(result))
    else:
        typer.echo(video.lines(result), nl=False)


def name(source: str) -> str:
    """For the output folder: the video's or the device's, or that of the camera's host."""
    from crowdseg.engine.video import address

    return Path(source).stem if "://" not in source else (address(source).hostname or "stream")


def frames_of(source: str) -> Callable[[str], bool]:
    """Tells of a path in ``people.jsonl`` whether it is a frame of this video."""
    from crowdseg.engine.video import is_stream, public_name

    video = public_name(source) if is_stream(source) else str(Path(source).absolute())
    return lambda path: path.rpartition("#")[0] == video
