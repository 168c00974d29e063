"""Masks as run-length codes (pycocotools' compressed form), from and to label maps, without a dense stack of masks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from crowdseg.structures import RLE, LabelMap, Size


def from_label_map(labels: LabelMap, number: int) -> list[RLE]:
    """Label map ``(H, W)`` -> ``number`` masks, the n-th of label n + 1. Work and memory are O(HW + runs)."""
    height, width = labels.shape
    flat = np.asarray(labels).ravel(order="F")
    if flat.size == 0 or number == 0:
        return [_from_runs(np.empty(0, int), np.empty(0, int), (height, width)) for _ in range(number)]
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    run_labels = flat[starts]
    order = np.argsort(run_labels, kind="stable")
    bounds = np.searchsorted(run_labels[order], np.arange(1, number + 2))
    return [_from_runs(starts[order[a:b]], ends[order[a:b]], (height, width)) for a, b in pairwise(bounds)]


def _from_runs(starts: np.ndarray, ends: np.ndarray, size: Size) -> RLE:
    """Ascending, non-touching foreground runs in column order -> RLE."""
    edges = np.empty(2 * len(starts) + 2, np.int64)
    edges[0], edges[-1] = 0, size[0] * size[1]
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    return coco_mask.frPyObjects({"size": list(size), "counts": np.diff(edges).tolist()}, *size)


def from_mask(mask: np.ndarray) -> RLE:
    """Boolean mask ``(H, W)`` -> RLE."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def from_coco(segmentation: Any, size: Size) -> RLE:
    """A COCO ``segmentation`` (polygons, uncompressed or compressed RLE) -> RLE."""
    codes = coco_mask.frPyObjects(segmentation, *size) if not _is_compressed(segmentation) else segmentation
    merged = coco_mask.merge(codes) if isinstance(codes, list) else codes
    counts = merged["counts"]
    return {"size": list(merged["size"]), "counts": counts.encode() if isinstance(counts, str) else counts}


def _is_compressed(segmentation: Any) -> bool:
    return isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list)


def to_mask(rle: RLE) -> np.ndarray:
    """RLE -> boolean mask ``(H, W)``."""
    return coco_mask.decode(rle).astype(bool)


def to_label_map(rles: list[RLE], size: Size) -> LabelMap:
    """Masks -> label map; where masks overlap the smaller one is on top (ties: the smaller index)."""
    labels = np.zeros(size, np.int32)
    areas = area(rles)
    corners = boxes(rles).astype(int)
    for index in sorted(range(len(rles)), key=lambda i: (-areas[i], -i)):
        x0, y0, x1, y1 = corners[index]
        window = np.s_[y0:y1, x0:x1]  # masks are small, and the image is not to be gone over for each
        labels[window][coco_mask.decode(rles[index])[window] > 0] = index + 1
    return labels


def runs(rles: list[RLE]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of all masks without decoding a pixel: ``(R,)`` the mask's index, the first position and the one past
    the last, in column order (x * H + y), sorted by mask and position."""
    sizes = np.array([len(rle["counts"]) for rle in rles], np.int64)
    letters = np.frombuffer(b"".join(rle["counts"] for rle in rles), np.uint8).astype(np.int64) - 48
    if not len(letters):
        return (np.zeros(0, np.int64),) * 3
    ends = np.flatnonzero((letters & 32) == 0)  # the letters that end a number, least significant five bits first
    starts = np.append(0, ends[:-1] + 1)
    shifts = 5 * (np.arange(len(letters)) - np.repeat(starts, ends - starts + 1))
    numbers = np.add.reduceat((letters & 31) << shifts, starts)
    numbers -= np.where(letters[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)  # two's complement
    owner = np.repeat(np.arange(len(rles)), sizes)[ends]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    for parity in (1, 0):  # from the fourth on a number is the difference to the last but one of its mask
        chain = np.flatnonzero((place % 2 == parity) & (place > 0))
        numbers[chain] = _cumulative(numbers[chain], owner[chain])
    until, inside = _cumulative(numbers, owner), (place % 2 == 1) & (numbers > 0)
    return owner[inside], (until - numbers)[inside], until[inside]


def _cumulative(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Cumulative sums that begin anew with each of the ascending groups."""
    sums = np.cumsum(values)
    first = np.searchsorted(groups, groups)
    return sums - (sums - values)[first]


def crops(rles: list[RLE]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Each mask as ``(x0, y0, pixels)``: the boolean pixels ``(h, w)`` within its bounding box, whose corner is
    (x0, y0). Work and memory go by the people, not by the image; an empty mask has no pixels, ``(0, 0)``."""
    owner, first, past = runs(rles)
    bounds = np.searchsorted(owner, np.arange(len(rles) + 1))
    for rle, (a, b) in zip(rles, pairwise(bounds), strict=True):
        lengths = past[a:b] - first[a:b]
        places = np.arange(lengths.sum()) + np.repeat(first[a:b] - (np.cumsum(lengths) - lengths), lengths)
        if not len(places):
            yield 0, 0, np.zeros((0, 0), bool)
            continue
        x, y = np.divmod(places, rle["size"][0])
        x0, y0 = int(x[0]), int(y.min())
        pixels = np.zeros((int(y.max()) - y0 + 1, int(x[-1]) - x0 + 1), bool)
        pixels[y - y0, x - x0] = True
        yield x0, y0, pixels


def area(rles: list[RLE]) -> np.ndarray:
    """Areas in pixels, ``(N,)`` int64."""
    # One by one: pycocotools 2.0.11 with numpy 2 fails on lists of more than 255.
    return np.fromiter((coco_mask.area(rle) for rle in rles), np.int64, len(rles))


def boxes(rles: list[RLE]) -> np.ndarray:
    """Bounding boxes ``(N, 4)`` float64 as ``(x0, y0, x1, y1)``, pixel edges."""
    if not rles:
        return np.zeros((0, 4))
    xywh = np.asarray(coco_mask.toBbox(rles), np.float64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def to_json(rle: RLE) -> dict[str, object]:
    """RLE with text counts, as COCO JSON files hold it."""
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}
