"""Prepared masks out of the folder, in the forms of other tools: a COCO file, or ``.npy`` label maps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import crowdseg
from crowdseg import files, rle
from crowdseg.data import load_dataset
from crowdseg.errors import CrowdsegError, UsageError
from crowdseg.masks.drawn import records_of
from crowdseg.masks.store import MaskStore, Record
from crowdseg.structures import RLE, Sample

Tick = Callable[[int, int], None]  # images done, of how many

_CATEGORY = {"id": 1, "name": "person", "supercategory": "person"}


@dataclass(frozen=True)
class MaskExport:
    """What :func:`export_masks` wrote: ``images`` with ``people`` masks to ``out``; ``failures`` could not be."""

    out: Path
    images: int
    people: int
    failures: list[str]


def export_masks(
    masks: Path | str,
    out: Path | str,
    *,
    data: Path | str | None = None,
    split: str | None = None,
    progress: Tick | None = None,
) -> MaskExport:
    """Write prepared masks for another tool.

    Args:
        masks: a folder of prepared masks. data: their dataset, where it has moved since.
        out: a COCO file where the name ends in ``.json``; else a folder for ``NAME.npy``, NAME the image's. There an
            array is ``(H, W)`` int32, n + 1 the n-th annotated point.
        split: ``"train"``, ``"val"`` or ``"test"``; None for all images.

    Raises:
        UsageError: no such masks, dataset or split; no image has masks; or two arrays would get the same name.
    """
    store, out = MaskStore.open(masks), Path(out)
    dataset = load_dataset(data or store.dataset_root)
    if split is not None and split not in dataset.splits:
        raise UsageError(f"{dataset.root} has no split {split!r}, only {', '.join(dataset.splits)}.")
    chosen = [sample for sample in (dataset.split(split) if split else dataset.samples) if store.has(sample)]
    if not chosen:
        raise UsageError(f"{store.folder} has no masks of these images: run `crowdseg prep-masks {dataset.root}`.")
    write = _coco_writer(out, dataset.root) if out.suffix.lower() == ".json" else _array_writer(out, chosen)
    people, failures = 0, []
    with write as add:
        for number, sample in enumerate(chosen, 1):
            try:
                if store.current_records(sample) is None:
                    raise UsageError(
                        f"{store.record_file(sample)} is of other points or settings; prep-masks remakes it."
                    )
                labels, records = store.labels(sample), records_of(store, sample)
            except CrowdsegError as error:
                failures.append(str(error))
            else:
                people += add(sample, labels, records)
            if progress is not None:
                progress(number, len(chosen))
    return MaskExport(out, len(chosen) - len(failures), people, failures)


Add = Callable[[Sample, np.ndarray, list[Record]], int]  # the image's people with a mask


@contextmanager
def _array_writer(folder: Path, samples: list[Sample]) -> Iterator[Add]:
    """Arrays as the XMask code reads them, ``masks/<id>.npy``."""
    names = Counter(sample.image.stem for sample in samples)
    if twice := [name for name, number in names.items() if number > 1]:
        raise UsageError(
            f"{len(twice)} names are of several images ({', '.join(twice[:3])}): choose a --split, or a .json file."
        )

    def add(sample: Sample, labels: np.ndarray, records: list[Record]) -> int:
        with files.atomic(folder / f"{sample.image.stem}.npy") as temporary:
            np.save(temporary, labels.astype(np.int32))
        return sum(record.area > 0 for record in records)

    yield add


@contextmanager
def _coco_writer(file: Path, root: Path) -> Iterator[Add]:
    """A COCO file whose annotations carry what the records say; written image by image, in place at the end."""
    images: list[dict[str, Any]] = []
    info = {"description": "Masks of crowdseg", "version": crowdseg.__version__, "dataset": str(root)}

    with files.atomic(file) as temporary, temporary.open("w", encoding="utf-8") as document:
        document.write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps([_CATEGORY])},\n"annotations": [')
        annotations = _AnnotationWriter(document)

        def add(sample: Sample, labels: np.ndarray, records: list[Record]) -> int:
            name, (height, width) = sample.image.relative_to(root).as_posix(), sample.size
            images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
            return annotations.add(len(images), rle.from_label_map(labels, len(records)), records)

        yield add
        document.write("\n],\n" + f'"images": {json.dumps(images)}}}\n')


class _AnnotationWriter:
    """Writes COCO annotations into an open list, numbered through."""

    def __init__(self, document: TextIO) -> None:
        self._document, self._written = document, 0

    def add(self, image_id: int, masks: list[RLE], records: list[Record]) -> int:
        """People who own no pixel, on a point that another one has too, are left out: tools refuse empty masks."""
        before = self._written
        for mask, record in zip(masks, records, strict=True):
            if record.area:
                annotation = {"id": self._written + 1, "image_id": image_id, **_annotation(mask, record)}
                self._document.write(f"{',' if self._written else ''}\n{json.dumps(annotation)}")
                self._written += 1
        return self._written - before


def _annotation(mask: RLE, record: Record) -> dict[str, Any]:
    x0, y0, x1, y1 = rle.boxes([mask])[0].tolist()
    return {
        "category_id": _CATEGORY["id"],
        "segmentation": rle.to_json(mask),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(rle.area([mask])[0]),
        "iscrowd": 0,
        "point": list(record.point),
        "source": record.source,
        "score": record.score,
        "leakage": record.leakage,
    }
