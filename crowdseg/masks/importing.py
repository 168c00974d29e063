"""Masks of another tool, or corrected by hand, into a folder of prepared masks: COCO files and label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

import crowdseg
from crowdseg import files, rle
from crowdseg.data import Dataset, load_dataset
from crowdseg.data.coco import load_instances, mask_of
from crowdseg.data.layout import files_of
from crowdseg.data.splits import bare_name, samples_by_name
from crowdseg.errors import DataError, UsageError, WriteError
from crowdseg.masks.drawn import crowd_of, drawn_records, records_of
from crowdseg.masks.exclusion import keep_points
from crowdseg.masks.store import IMPORTED, MANIFEST, MaskStore, identity
from crowdseg.structures import RLE, LabelMap, Sample

Tick = Callable[[int, int], None]  # images done, of how many

_IN_ORDER = 0.5  # least share of points on their own label for a label map to be taken as in point order


@dataclass
class MaskImport:
    """What :func:`import_masks` did.

    Attributes:
        folder: the prepared masks. images: taken over. people: of them. changed: masks unlike those that were there.
        bare: people for whom nothing came, who are left with the pixel of their point.
        empty: images for whose people nothing came at all, which stay as they are.
        defects: what was wrong with the source, by file or image; the rest was taken over.
    """

    folder: Path
    images: int = 0
    people: int = 0
    changed: int = 0
    bare: int = 0
    empty: int = 0
    defects: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Drawn:
    """Masks for one image: the label map in point order, and what the source says of each person, by label."""

    labels: LabelMap
    told: dict[int, dict[str, Any]] = field(default_factory=dict)


def import_masks(
    source: Path | str, data: Path | str, out: Path | str | None = None, *, progress: Tick | None = None
) -> MaskImport:
    """Take over masks drawn elsewhere; images that ``source`` does not speak of stay as they are.

    Args:
        source: a COCO file (polygons or RLE), or a folder of label maps ``NAME.npy`` or ``NAME.png`` in point order. A
            COCO mask belongs to the point it names as ``point``, else to the one that lies in it.
        data: the dataset whose points the masks are of.
        out: folder of prepared masks, made if it is not there; default ``runs/masks/<dataset folder>``. What is
            imported there is not made anew by ``prep_masks`` as long as the points stay the same.

    Raises:
        UsageError: no such source or dataset, or ``out`` holds masks of another dataset.
        DataError: the source is unreadable, or none of its images is in the dataset.
    """
    source, dataset = Path(source), load_dataset(data)
    if not source.exists():
        raise UsageError(f"{source} is not there: name a COCO file or a folder of label maps.")
    result = MaskImport(Path(out) if out is not None else files.RUNS / "masks" / dataset.root.resolve().name)
    named = _named_images(source, dataset, result)
    if not named:
        reason = f" ({result.defects[0]})" if result.defects else ""
        raise DataError(f"{source} holds masks of none of the annotated images of {dataset.root}{reason}.")
    store = _store(result.folder, dataset)
    for number, (sample, read) in enumerate(named, 1):
        try:
            drawn = read(sample, result)
            if drawn.labels.any() or not sample.count:
                _take_over(store, sample, drawn, result)
            else:  # tools list images that nobody has come to yet
                result.empty += 1
        except WriteError:
            raise
        except DataError as error:
            result.defects.append(str(error))
        if progress is not None:
            progress(number, len(named))
    store.note(dataset)
    return result


Read = Callable[[Sample, MaskImport], _Drawn]


def _named_images(source: Path, dataset: Dataset, result: MaskImport) -> list[tuple[Sample, Read]]:
    """The samples that the source speaks of, each with what reads its masks."""
    known = samples_by_name([sample for sample in dataset.samples if sample.points is not None])
    found: dict[str, tuple[Sample, Read]] = {}
    for name, read in _label_maps(source) if source.is_dir() else _coco_images(source):
        parts = bare_name(name).split("/")
        endings = ("/".join(parts[start:]) for start in range(len(parts)))
        samples = next((known[ending] for ending in endings if ending in known), [])
        if len(samples) != 1:
            what = "fits several images" if samples else "is not among the annotated images"
            result.defects.append(f"{source}: {name} {what}")
        elif samples[0].key in found:
            result.defects.append(f"{source}: {name} is there twice; the first is taken")
        else:
            found[samples[0].key] = (samples[0], read)
    return list(found.values())


def _store(folder: Path, dataset: Dataset) -> MaskStore:
    if not (folder / MANIFEST).exists():
        content = {"crowdseg": crowdseg.__version__, "segmenter": IMPORTED, "settings": {}}
        return MaskStore.create(folder, {**content, "dataset": identity(dataset)})
    store = MaskStore.open(folder)
    store.check_is_of(dataset)
    return store


# Reading


def _label_maps(folder: Path) -> Iterator[tuple[str, Read]]:
    for file in files_of(folder, {".npy", ".png"}):

        def read(sample: Sample, result: MaskImport, file: Path = file) -> _Drawn:
            return _Drawn(_labels_in_order(file, sample))

        yield file.stem, read


def _labels_in_order(file: Path, sample: Sample) -> LabelMap:
    """The label map, if it fits the image and its labels the points."""
    labels = files.read_label_map(file)
    assert sample.points is not None
    if labels.shape != tuple(sample.size):
        raise DataError(f"{file} has (height, width) = {labels.shape}, its image {sample.size}. Remake it.")
    if labels.min(initial=0) < 0 or labels.max(initial=0) > len(sample.points):
        raise DataError(f"{file} has labels outside 0 to {len(sample.points)}, the number of points of {sample.key}.")
    columns, rows = np.floor(sample.points + 0.5).astype(np.intp).T
    own = labels[rows, columns] == np.arange(1, len(sample.points) + 1)
    if labels.any() and own.mean() < _IN_ORDER:
        raise DataError(
            f"{file} has the own label at {own.sum()} of {len(own)} points of {sample.key}: label n + 1 must be the "
            "mask of the n-th point. Renumber it, or import it as COCO."
        )
    return labels


def _coco_images(file: Path) -> Iterator[tuple[str, Read]]:
    instances = load_instances(file)
    for image in instances.images:
        annotations = instances.annotations.get(str(image.get("id")), [])

        def read(sample: Sample, result: MaskImport, annotations: list[dict[str, Any]] = annotations) -> _Drawn:
            return _draw(file, annotations, sample, result)

        yield str(image.get("file_name", "")), read


def _draw(file: Path, annotations: list[dict[str, Any]], sample: Sample, result: MaskImport) -> _Drawn:
    """COCO annotations of one image -> their masks in point order; where masks overlap the smaller one is on top."""
    masks, told = [], []
    for each in annotations:
        try:
            mask = None if each.get("iscrowd") else mask_of(each, sample.size)
        except Exception as error:  # pycocotools raises anything on a malformed segmentation
            result.defects.append(f"{file}: annotation {each.get('id')} of {sample.key} has no usable mask ({error})")
            continue
        if mask is not None:
            masks.append(mask)
            told.append(each)
    labels = _point_labels(masks, told, sample)
    for each, label in zip(told, labels, strict=True):
        if not label:
            result.defects.append(f"{file}: annotation {each.get('id')} of {sample.key} lies on no point of its own")
    kept = [(mask, label) for mask, label in zip(masks, labels, strict=True) if label]
    painted = rle.to_label_map([mask for mask, _ in kept], sample.size)
    renumber = np.array([0, *(label for _, label in kept)], np.int32)
    return _Drawn(renumber[painted], dict(zip(labels, told, strict=True)))


def _point_labels(masks: list[RLE], told: list[dict[str, Any]], sample: Sample) -> list[int]:
    """For every mask the label of its point, 0 for none; no two get the same.

    A mask that names its point has that one. The others share the points left that lie in them, so that as many as
    possible get one.
    """
    assert sample.points is not None
    free: dict[tuple[float, float], list[int]] = {}
    for index in reversed(range(len(sample.points))):
        free.setdefault(_rounded(sample.points[index]), []).append(index)
    labels = [0] * len(masks)
    for number, each in enumerate(told):
        if indices := free.get(_rounded(each.get("point"))):
            labels[number] = indices.pop() + 1
    left = np.array(sorted(index for indices in free.values() for index in indices), np.intp)
    unnamed = [number for number, label in enumerate(labels) if not label]
    if len(left) and unnamed:
        columns, rows = np.floor(sample.points[left] + 0.5).astype(np.intp).T
        inside = csr_matrix(np.array([rle.to_mask(masks[number])[rows, columns] for number in unnamed]))
        for number, point in zip(unnamed, maximum_bipartite_matching(inside, perm_type="column"), strict=True):
            labels[number] = int(left[point]) + 1 if point >= 0 else 0
    return labels


def _rounded(point: Any) -> tuple[float, float]:
    """A point as a key, to a thousandth of a pixel; one that is no pair of numbers fits none."""
    try:
        x, y = point
        return round(float(x), 3), round(float(y), 3)
    except (TypeError, ValueError):
        return (-1.0, -1.0)


# Keeping


def _take_over(store: MaskStore, sample: Sample, drawn: _Drawn, result: MaskImport) -> None:
    """Keep the masks; a mask that is as it was keeps its record too."""
    crowd = crowd_of(sample)
    missing = ~np.isin(np.arange(1, len(crowd) + 1), drawn.labels)
    labels = keep_points(drawn.labels, crowd)
    records, same = drawn_records(labels, crowd, drawn.told), np.zeros(len(crowd), bool)
    if store.is_current(sample):
        same, old = _unchanged(store.labels(sample), labels, len(crowd)), records_of(store, sample)
        new = drawn_records(labels, crowd)
        records = [old[index] if same[index] else new[index] for index in range(len(crowd))]
    store.write(sample, labels, records, imported=True)
    result.images += 1
    result.people += len(crowd)
    result.changed += int((~same).sum())
    result.bare += int((missing & ~same).sum())


def _unchanged(before: LabelMap, labels: LabelMap, number: int) -> NDArray[np.bool_]:
    """Which of ``number`` masks have the same pixels in both label maps."""
    before = np.where(before > number, 0, before)  # masks of one's own may have labels of nobody
    areas = [np.bincount(each.ravel(), minlength=number + 1) for each in (before, labels, labels[before == labels])]
    return (areas[0] == areas[1])[1:] & (areas[1] == areas[2])[1:]
