"""``crowdseg predict``."""

from __future__ import annotations

import signal
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from crowdseg.engine import Model
    from crowdseg.engine.image_files import NamedImage
    from crowdseg.engine.predicting import PredictedImages
    from crowdseg.report.prediction import Outputs

BROKEN_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("predict")(predict)


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES",
            help="Images, folders of images, patterns in quotes, or - for a list on stdin; or one video, or a camera's "
            "address or device; after them, if not the newest under ./runs, a run's folder.",
            show_default=False,
        ),
    ],
    run: Annotated[Path | None, typer.Option(help="The run's folder, in place of the last argument.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: runs/predict/NAME.")] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="LIST", help="Files of the people: coco, coco-results, nwpu, geojson.")
    ] = "coco",
    save_masks: Annotated[bool, typer.Option("--save-masks", help="Write label maps as PNG.")] = False,
    overlay: Annotated[
        str, typer.Option(metavar="LIST", help="What pictures show: points, masks, outlines, density; none for none.")
    ] = "points,masks",
    page: Annotated[bool, typer.Option(help="Write page.html, to look through what was found.")] = True,
    count_only: Annotated[bool, typer.Option("--count-only", help="No masks: counts and points, faster.")] = False,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="People scored above this are reported.")] = 0.5,
    tile: Annotated[int | None, typer.Option(min=64, help="Side of the tiles of larger images, in pixels.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What may be held in memory, as 3GB. Default: half of the free.")
    ] = None,
    every: Annotated[int | None, typer.Option(min=1, help="Of a video, one of so many frames. Default: all.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do all anew, also what is done already.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Count and segment the people in images, or in a video.

    Prints a count per image; writes counts.csv, predictions.json (COCO with RLE, score and point) or other --format,
    overlays, and page.html to look through them. Images that are done already, with these weights and settings, are
    not done again. Of a video: counts over time as a table and a plot, and an overlay video.
    """
    from crowdseg.cli import predict_video
    from crowdseg.engine import load
    from crowdseg.engine.image_files import find_images
    from crowdseg.engine.video import is_video
    from crowdseg.errors import Interrupted, UsageError
    from crowdseg.files import RUNS
    from crowdseg.memory import parse_memory
    from crowdseg.report.console import err
    from crowdseg.report.formats import FORMATS
    from crowdseg.report.journal import folder_for
    from crowdseg.report.overlay import LAYERS
    from crowdseg.report.prediction import Outputs

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # of batch systems and containers: as good as Ctrl-C
    layers = _chosen("--overlay", overlay, LAYERS)
    outputs = Outputs(_chosen("--format", format, FORMATS), label_maps=save_masks, overlay=layers)
    if count_only and (needing := outputs.of_masks):
        raise UsageError(f"--count-only draws no masks: leave it out, or leave out {needing}.")
    sources, run = _sort_out(sources, run)
    video = any(map(is_video, sources))
    if video:
        predict_video.refuse(sources, {"--format": format != "coco", "--save-masks": save_masks})
    elif every is not None:
        raise UsageError("--every is for videos: leave it out.")
    left_out: list[Path] = []
    images = [] if video else find_images(sources, left_out)
    if left_out:
        more = f" and {len(left_out) - 1} more" * (len(left_out) > 1)
        err.print(f"Left out, as crowdseg wrote it: {left_out[0]}{more}", highlight=False, markup=False)
    model = load(run, device=device)
    if not model.draws_masks and (needing := outputs.of_masks):
        raise UsageError(f"The weights of {model.run} draw no masks: leave out {needing}.")
    options = {"min_score": min_score, "masks": not count_only, **({} if tile is None else {"tile": tile})}
    options |= {} if max_memory is None else {"max_memory": parse_memory(max_memory)}
    settings = {**_fingerprint(model.run), "min_score": min_score, "masks": not count_only}
    keeping = {"settings": settings, "overwrite": overwrite}
    name = predict_video.name(sources[0]) if video else _name(sources)
    ours = predict_video.frames_of(sources[0]) if video else {str(image.path) for image in images}.__contains__
    folder = out or folder_for(RUNS / "predict", name, ours)
    try:
        if video:
            predict_video.predict_video(
                model, sources[0], folder, layers, every=every or 1, keeping=keeping, as_json=as_json, options=options
            )
        else:
            title = name if page else None
            _predict_images(model, images, folder, outputs, title, keeping=keeping, as_json=as_json, options=options)
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped. What is finished is kept in {folder}: run the same command again to go on."
        ) from None


def _predict_images(
    model: Model,
    images: list[NamedImage],
    folder: Path,
    outputs: Outputs,
    page: str | None,
    *,
    keeping: dict[str, Any],
    as_json: bool,
    options: dict[str, Any],
) -> None:
    """Predict images, show their counts and write their files into ``folder``.

    Args:
        page: what the page calls the images; None for no page.
        keeping: ``settings`` and ``overwrite`` of the writer.
        options: of ``model.predict``.
    """
    from crowdseg.engine.predicting import PredictedImages, predict_images
    from crowdseg.report.console import err
    from crowdseg.report.prediction import PredictionWriter
    from crowdseg.report.predictions_page import page_beside

    info = {"model": model.name, "run": str(model.run), "min_score": options["min_score"]}
    about = f"By {model.name}, people scored above {options['min_score']:g}."
    with (
        PredictionWriter.open(folder, images, outputs, info=info, **keeping) as writer,
        page_beside(writer, images, f"People in {page}", about) if page else nullcontext(writer.add) as add,
    ):
        new = predict_images(model, writer.todo, add, **options)
        broken = [*writer.again(writer.undrawn, add), *new.broken]
    result = PredictedImages(writer.counts(), broken)
    _print(result, as_json)
    if kept := len(writer.done) + len(writer.undrawn):
        err.print(f"{kept} of {len(images)} images were done before; --overwrite does them anew", highlight=False)
    err.print(f"{model.name}: written to {folder}", highlight=False, markup=False)
    _report_broken(result)


def _sort_out(sources: list[str], run: Path | None) -> tuple[list[str], Path | None]:
    """Images and run; the last of several arguments is the run if it is one."""
    last = Path(sources[-1])
    if run is None and len(sources) > 1 and ((last / "weights.json").is_file() or last.suffix == ".safetensors"):
        return sources[:-1], last
    return sources, run


def _chosen(option: str, text: str, names: Collection[str]) -> tuple[str, ...]:
    """The names in a list parted by commas, each once; ``none`` is the empty list."""
    from crowdseg.errors import UsageError

    words = [] if text.strip() == "none" else [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if word not in names]:
        raise UsageError(f"{option} has {unknown[0]!r}: choose among {', '.join(names)}, with commas between, or none.")
    return tuple(dict.fromkeys(words))


def _fingerprint(run: Path) -> dict[str, str]:
    """What results depend on besides the image and the options."""
    from crowdseg import __version__, files

    names = ("weights.safetensors", "config.yaml")
    return {"version": __version__, **{name: files.sha256(run / name) for name in names}}


def _name(sources: list[str]) -> str:
    """For the output folder: that of the image, else of the first folder, or the folder around files or a pattern."""
    first = Path(sources[0])
    if sources[0] == "-":
        return "stdin"
    if first.is_file() and len(sources) == 1:
        return first.stem
    folder = first if first.is_dir() else first.parent
    return folder.resolve().name.strip("*?[]") or "images"


def _print(result: PredictedImages, as_json: bool) -> None:
    import json

    from crowdseg.report import prediction
    from crowdseg.report.console import out

    if as_json:
        typer.echo(json.dumps(prediction.document(result), indent=2))
    elif out.is_terminal:
        out.print(prediction.table(result))
    else:
        typer.echo(prediction.lines(result), nl=False)


def _report_broken(result: PredictedImages) -> None:
    from crowdseg.errors import PartialFailure

    if result.broken:
        reasons = [f"\n  {reason}" for _, reason in result.broken[:BROKEN_SHOWN]]
        more = "" if len(result.broken) <= BROKEN_SHOWN else f"\n  and {len(result.broken) - BROKEN_SHOWN} more"
        total = len(result.broken) + len(result.counts)
        raise PartialFailure(f"{len(result.broken)} of {total} images could not be read:{''.join(reasons)}{more}")
