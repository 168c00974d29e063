"""Showing predictions: the table of counts, and the files of ``crowdseg predict``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from crowdseg import __version__, files, rle
from crowdseg.engine.predicting import PredictedImages
from crowdseg.structures import Prediction

CATEGORY = {"id": 1, "name": "person", "supercategory": "person"}


class PredictionWriter:
    """Writes predictions into a folder as they come; made by :meth:`open`."""

    def __init__(self, folder: Path, counts: TextIO, document: TextIO, save_masks: bool, overlays: bool) -> None:
        self.folder, self._save_masks, self._overlays = folder, save_masks, overlays
        self._counts, self._document = csv.writer(counts), document
        self._images: list[dict[str, Any]] = []
        self._people = 0
        self._stems: set[str] = set()

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        *,
        save_masks: bool = False,
        overlays: bool = True,
        info: dict[str, Any] | None = None,
    ) -> Iterator[PredictionWriter]:
        """A writer into ``folder``, which is made if needed. Never more than one image is in memory.

        ``counts.csv`` and ``predictions.json`` (a COCO file; its ``annotations`` are COCO results with RLE, score and
        the person's point) take their places when the block ends without an error.

        Args:
            save_masks: write label maps to ``masks/`` as PNG, n + 1 the n-th person of the image.
            overlays: write pictures of the masks and points over the image to ``overlays/``.
            info: what ``predictions.json`` tells of the model.
        """
        folder = Path(folder)
        with (
            files.atomic(folder / "counts.csv") as counts_file,
            files.atomic(folder / "predictions.json") as document_file,
            counts_file.open("w", newline="", encoding="utf-8") as counts,
            document_file.open("w", encoding="utf-8") as document,
        ):
            writer = cls(folder, counts, document, save_masks, overlays)
            writer._begin({"description": "Predictions of crowdseg", "version": __version__, **(info or {})})
            yield writer
            writer._end()

    def add(self, prediction: Prediction, image: NDArray[np.uint8]) -> None:
        """Write one image ``(H, W, 3)`` with its prediction; ``prediction.key`` is its name with extension."""
        assert prediction.key is not None
        height, width = prediction.size
        count: float = len(prediction.points) if prediction.total is None else float(prediction.total)
        record = {"id": len(self._images) + 1, "file_name": prediction.key, "height": height, "width": width}
        self._images.append({**record, "count": count})
        self._counts.writerow([prediction.key, show_count(count)])
        self._add_people(prediction, len(self._images))
        stem = self._stem(prediction.key)
        labels = prediction.labels
        if labels is None and prediction.rles is not None:
            labels = rle.to_label_map(prediction.rles, prediction.size)
        if self._save_masks and labels is not None:
            files.write_label_map(self.folder / "masks" / f"{stem}.png", labels)
        if self._overlays:
            from crowdseg.report.overlay import draw_overlay

            picture = draw_overlay(image, labels, prediction.points)
            files.write_picture(self.folder / "overlays" / f"{stem}.jpg", picture)

    def _begin(self, info: dict[str, Any]) -> None:
        self._counts.writerow(["image", "count"])
        self._document.write(
            f'{{"info": {json.dumps(info)},\n"categories": {json.dumps([CATEGORY])},\n"annotations": ['
        )

    def _end(self) -> None:
        images = ",\n".join(map(json.dumps, self._images))
        self._document.write(f'\n],\n"images": [\n{images}\n]}}\n')

    def _add_people(self, prediction: Prediction, image_id: int) -> None:
        masks = prediction.masks() if prediction.has_masks else None
        boxes, areas = (None, None) if masks is None else (rle.boxes(masks), rle.area(masks))
        for index, ((x, y), score) in enumerate(zip(prediction.points, prediction.scores, strict=True)):
            record: dict[str, Any] = {"id": self._people + 1, "image_id": image_id, "category_id": CATEGORY["id"]}
            record |= {"score": float(f"{score:.9g}"), "point": [round(float(x), 3), round(float(y), 3)]}
            if masks is not None and boxes is not None and areas is not None:
                x0, y0, x1, y1 = boxes[index].tolist()
                record |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(areas[index]), "iscrowd": 0}
                record["segmentation"] = rle.to_json(masks[index])
            self._document.write(f"{',' if self._people else ''}\n{json.dumps(record)}")
            self._people += 1

    def _stem(self, name: str) -> str:
        """The name without its extension; with it where another image has taken that (``a.jpg`` beside ``a.png``)."""
        stem = PurePosixPath(name).with_suffix("").as_posix()
        stem = name if stem in self._stems else stem
        self._stems.add(stem)
        return stem


def show_count(count: float) -> str:
    """A count without needless decimals."""
    return str(int(count)) if float(count).is_integer() else f"{count:.2f}"


def table(result: PredictedImages) -> Table:
    """Counts by image, and their sum, for the terminal."""
    grid = Table(show_footer=len(result.counts) > 1)
    grid.add_column("image", footer=f"{len(result.counts)} images", overflow="fold")
    grid.add_column("people", footer=show_count(result.total), justify="right", style="bold")
    for name, count in result.counts:
        grid.add_row(name, show_count(count))
    return grid


def lines(result: PredictedImages) -> str:
    """``name<TAB>count`` for programs to read."""
    return "".join(f"{name}\t{show_count(count)}\n" for name, count in result.counts)


def document(result: PredictedImages) -> dict[str, Any]:
    """The counts as JSON."""
    return {
        "images": [{"image": name, "count": count} for name, count in result.counts],
        "total": result.total,
        "broken": [{"image": name, "reason": reason} for name, reason in result.broken],
    }
