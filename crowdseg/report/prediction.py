"""Showing predictions: the table of counts, and the files of ``crowdseg predict``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from crowdseg import files, rle
from crowdseg.data import read_image
from crowdseg.engine.image_files import NamedImage
from crowdseg.engine.predicting import PredictedImages
from crowdseg.errors import DataError
from crowdseg.report.console import progress
from crowdseg.report.formats import (
    FORMATS,
    Entry,
    check_names,
    labels_of,
    numbers_of,
    show_count,
    stems_of,
    write_counts,
)
from crowdseg.report.journal import JOURNAL, Journal, identity, prediction_of
from crowdseg.structures import Prediction

_SPELT = str.maketrans({"\t": r"\t", "\n": r"\n", "\r": r"\r"})  # in names, where they would part fields or lines
_PICTURES = {"label_map": ("masks", ".png"), "overlay": ("overlays", ".jpg")}  # folder and extension


@dataclass(frozen=True)
class Outputs:
    """What is written beside ``counts.csv`` and ``people.jsonl``.

    Attributes:
        formats: keys of :data:`crowdseg.report.formats.FORMATS`.
        label_maps: ``masks/NAME.png``, n + 1 the n-th person of the image.
        overlay: layers, of :data:`crowdseg.report.overlay.LAYERS`, of the picture ``overlays/NAME.jpg``; without any
            there is none.
    """

    formats: tuple[str, ...] = ("coco",)
    label_maps: bool = False
    overlay: tuple[str, ...] = ("points", "masks")

    @property
    def of_masks(self) -> str:
        """The options that need masks, for a message; empty where none does."""
        named = [f"--format {name}" for name in self.formats if name == "coco-results"]
        return " and ".join(named + ["--save-masks"] * self.label_maps)

    @property
    def pictures(self) -> dict[str, Any]:
        """What is made image by image, and so must be there for an image to be done."""
        return {"label_map": self.label_maps, "overlay": ",".join(sorted(self.overlay))}


class PredictionWriter:
    """Writes predictions into a folder as they come; made by :meth:`open`. Never more than one image is in memory.

    Attributes:
        done: images whose files are there already, of the same file, weights and settings.
        undrawn: images that were predicted so, but whose pictures are not those wanted.
        todo: the others.
    """

    def __init__(
        self,
        folder: Path,
        images: Sequence[NamedImage],
        outputs: Outputs,
        settings: dict[str, Any],
        info: dict[str, Any],
        overwrite: bool,
    ) -> None:
        self.folder, self._outputs, self._info = folder, outputs, info
        self._images = {str(image.path): image for image in images}
        self._stems = dict(zip(self._images, stems_of([image.name for image in images]), strict=True))
        # Asked before anything is read, so that a file that changes meanwhile is done anew the next time.
        self._identities = {path: identity(image.path, settings) for path, image in self._images.items()}
        self._journal = Journal(folder / JOURNAL, overwrite=overwrite)
        heads = self._journal.heads.values()
        self._told = {(name, head["stem"]) for head in heads for name in _PICTURES if head.get(name) and "stem" in head}
        finished = self._finished()
        drawn = {path for path, head in finished.items() if self._drawn(path, head)}
        self.done = [image for path, image in self._images.items() if path in drawn]
        self.undrawn = [image for path, image in self._images.items() if path in finished and path not in drawn]
        self.todo = [image for path, image in self._images.items() if path not in finished]

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        images: Sequence[NamedImage],
        outputs: Outputs | None = None,
        *,
        settings: dict[str, Any] | None = None,
        overwrite: bool = False,
        info: dict[str, Any] | None = None,
    ) -> Iterator[PredictionWriter]:
        """A writer of these images into ``folder``, which is made if needed.

        When the block ends, or is interrupted, ``counts.csv`` and the formats are written of all that is done.

        Args:
            settings: what results depend on besides the image; those of other settings are not kept.
            overwrite: keep nothing of what is there.
            info: what ``predictions.json`` tells of the model.

        Raises:
            UsageError: a format cannot hold the name of an image.
        """
        outputs = outputs or Outputs()
        check_names([image.name for image in images], outputs.formats)
        writer = cls(Path(folder), images, outputs, settings or {}, info or {}, overwrite)
        try:
            yield writer
            writer._compose()
            writer._tidy()
        except KeyboardInterrupt:
            if writer._finished():
                with files.uninterrupted():
                    writer._compose()
            raise
        finally:
            writer._journal.close()

    def add(self, prediction: Prediction, image: NDArray[np.uint8]) -> None:
        """Write one image ``(H, W, 3)`` with its prediction; ``prediction.image`` is its file. It is drawn over."""
        path = str(prediction.image)
        self._draw(prediction, image, path)
        names = {"image": self._images[path].name, "stem": self._stems[path]}
        self._journal.append({**names, **self._identities[path], **self._outputs.pictures}, prediction)

    def again(
        self, images: Sequence[NamedImage], receive: Callable[[Prediction, NDArray[np.uint8]], None]
    ) -> list[tuple[str, str]]:
        """Hand on images that are ``done`` or ``undrawn`` with what was predicted, without a network.

        Returns:
            (name, what is wrong) of images that cannot be read any more.
        """
        broken = []
        with progress() as bar:
            for image in bar.track(images, description="Drawing"):
                try:
                    pixels = read_image(image.path)
                except DataError as error:
                    broken.append((image.name, str(error)))
                else:
                    receive(self.stored(image), pixels)
        return broken

    def stored(self, image: NamedImage) -> Prediction:
        """The prediction of an image that is ``done`` or ``undrawn``, its points to a thousandth of a pixel."""
        found = prediction_of(self._journal.record(str(image.path)))
        found.key, found.image = image.name, image.path
        return found

    def counts(self) -> list[tuple[str, float]]:
        """(name, count) of every image that is finished, in the order of the images."""
        return [(self._images[path].name, head["count"]) for path, head in self._finished().items()]

    @property
    def identities(self) -> list[dict[str, Any]]:
        """What the result of every image that is finished depends on: its file and the settings."""
        return [self._identities[path] for path in self._finished()]

    def _finished(self) -> dict[str, dict[str, Any]]:
        """Path -> line, without its people, of this image file and these settings."""
        heads = {path: self._journal.head(path) for path in self._images}
        return {
            path: head
            for path, head in heads.items()
            if head is not None and self._identities[path].items() <= head.items()
        }

    def _drawn(self, path: str, head: dict[str, Any]) -> bool:
        """Whether the pictures that are wanted were made, and are still there."""
        wanted = {name: value for name, value in self._outputs.pictures.items() if value}
        drawn = not wanted or {"stem": self._stems[path], **wanted}.items() <= head.items()
        return drawn and all(self._picture(name, self._stems[path]).is_file() for name in wanted)

    def _picture(self, name: str, stem: str) -> Path:
        folder, extension = _PICTURES[name]
        return self.folder / folder / f"{stem}{extension}"

    def _tidy(self) -> None:
        """The journal holds the images of this call alone, in their order; pictures that it told of others go."""
        finished = self._finished()
        for name, stem in self._told - {(name, self._stems[path]) for path in finished for name in _PICTURES}:
            files.remove(self._picture(name, stem))
        self._journal.keep({**head, "image": self._images[path].name} for path, head in finished.items())

    def _draw(self, prediction: Prediction, image: NDArray[np.uint8], path: str) -> None:
        if self._outputs.label_maps and prediction.has_masks:
            labels = prediction.labels
            labels = rle.to_label_map(prediction.masks(), prediction.size) if labels is None else labels
            files.write_label_map(self._picture("label_map", self._stems[path]), labels)
        if layers := self._outputs.overlay:
            from crowdseg.report.overlay import draw_overlay

            masks = prediction.masks() if prediction.has_masks else None
            picture = draw_overlay(image, masks, prediction.points, layers=layers, in_place=True)
            files.write_picture(self._picture("overlay", self._stems[path]), picture)

    def _compose(self) -> None:
        """``counts.csv`` and the formats, of what is finished."""
        paths = list(self._finished())
        names = [self._images[path].name for path in paths]
        with ExitStack() as stack:
            opened = [FORMATS[name](self.folder, self._info) for name in self._outputs.formats]
            adds = [stack.enter_context(each) for each in (write_counts(self.folder), *opened)]
            bar = stack.enter_context(progress())
            rows = list(zip(paths, names, numbers_of(names), labels_of(names), strict=True))
            for path, name, number, label in bar.track(rows, description="Writing"):
                record = self._journal.record(path)
                found = {key: record[key] for key in ("height", "width", "count", "people")}
                entry = Entry(number=number, name=name, stem=self._stems[path], label=label, **found)
                for add in adds:
                    add(entry)


def table(result: PredictedImages) -> Table:
    """Counts by image, and their sum, for the terminal."""
    grid = Table(show_footer=len(result.counts) > 1)
    grid.add_column("image", footer=f"{len(result.counts)} images", overflow="fold")
    grid.add_column("people", footer=show_count(result.total), justify="right", style="bold")
    for name, count in result.counts:
        grid.add_row(escape(name), show_count(count))
    return grid


def lines(result: PredictedImages) -> str:
    """``name<TAB>count`` for programs to read; tabs and line ends in names are written ``\\t``, ``\\n``."""
    return "".join(f"{name.translate(_SPELT)}\t{show_count(count)}\n" for name, count in result.counts)


def document(result: PredictedImages) -> dict[str, Any]:
    """The counts as JSON."""
    return {
        "images": [{"image": name, "count": count} for name, count in result.counts],
        "total": result.total,
        "broken": [{"image": name, "reason": reason} for name, reason in result.broken],
    }
