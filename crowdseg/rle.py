"""Masks as run-length codes (pycocotools' compressed form), from and to label maps, without a dense stack of masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from crowdseg.structures import RLE, LabelMap, Size

STRIP = 1 << 24  # pixels of a label map that are gone over at once
_BLOCK = 64  # rows
_FARTHEST = 1_000_000  # pixels from the corner of an image to a point of an outline
_FIRST_LETTER, _LONGEST = 48, 7  # COCO's letters, five bits each; a number of 32 bits with its sign takes seven

Runs = tuple[np.ndarray, np.ndarray, np.ndarray]  # (R,) each: the mask's index, first position, the one past the last


def from_label_map(labels: LabelMap, number: int) -> list[RLE]:
    """Label map ``(H, W)`` -> ``number`` masks, the n-th of label n + 1. Work is O(HW + runs), memory O(runs)."""
    height, width = labels.shape
    columns = max(1, STRIP // max(1, height))
    strips = [runs_of_labels(labels[:, x : x + columns], x) for x in range(0, max(1, width), columns)]
    return from_runs(joined(strips), number, (height, width))


def runs_of_labels(labels: LabelMap, column: int = 0) -> Runs:
    """The runs, as :func:`runs` gives them but sorted by position alone, of the columns of a label map that begin at
    ``column``; its rows are the whole image's."""
    flat = _turned(labels).ravel()
    first = np.flatnonzero(np.append(True, flat[1:] != flat[:-1])) if flat.size else np.zeros(0, np.int64)
    past = np.append(first[1:], flat.size) if flat.size else first
    owner = flat[first].astype(np.int64) - 1
    inside, before = owner >= 0, column * labels.shape[0]
    return owner[inside], first[inside] + before, past[inside] + before


def joined(parts: Sequence[Runs]) -> Runs:
    """The runs of several parts of an image, one after the other."""
    owner, first, past = (np.concatenate(each) for each in zip(*parts, strict=True))
    return owner, first, past


def from_runs(found: Runs, number: int, size: Size) -> list[RLE]:
    """The inverse of :func:`runs`: ``number`` masks, all written at once. Each mask's runs come in ascending order;
    those that touch become one."""
    owner, first, past = _sorted_and_whole(found, number)
    each = np.bincount(owner, minlength=number)
    index = np.arange(len(owner)) - (np.cumsum(each) - each)[owner]  # of the run within its mask
    begin = 2 * (np.cumsum(each) - each) + np.arange(number)  # of the mask's numbers: a gap before each run, one behind
    place, end = begin[owner] + 2 * index, begin + 2 * each
    numbers = np.empty(2 * len(owner) + number, np.int64)
    numbers[end] = size[0] * size[1]
    numbers[place + 1], numbers[place] = past - first, first
    later = np.flatnonzero(index)
    numbers[place[later]] -= past[later - 1]
    last = np.flatnonzero(np.diff(owner, append=-1))
    numbers[end[owner[last]]] -= past[last]
    mask = np.repeat(np.arange(number), 2 * each + 1)
    kept = np.ones(len(numbers), bool)
    kept[end[(each > 0) & (numbers[end] == 0)]] = False  # nothing is behind the last run
    return _written(numbers[kept], mask[kept], number, size)


def _sorted_and_whole(found: Runs, number: int) -> Runs:
    """The runs of the first ``number`` masks sorted by mask, touching ones joined."""
    order = np.argsort(found[0], kind="stable")
    owner, first, past = (each[order[found[0][order] < number]] for each in found)
    starts = np.append(True, (owner[1:] != owner[:-1]) | (first[1:] != past[:-1]))[: len(owner)]
    ends = np.append(starts[1:], True)[: len(owner)]
    return owner[starts], first[starts], past[ends]


def _written(numbers: np.ndarray, mask: np.ndarray, number: int, size: Size) -> list[RLE]:
    """The numbers of each mask, which every mask has, in COCO's letters."""
    index = np.arange(len(numbers)) - np.searchsorted(mask, mask)
    values = numbers.copy()
    change = np.flatnonzero(index > 2)  # from the fourth on: the difference to the last but one
    values[change] -= numbers[change - 2]
    letters, used, going = [], [], np.ones(len(values), bool)
    while going.any():  # five bits a letter, the least significant first; the sixth says that more follow
        low, values = values & 31, values >> 5
        more = going & (values != np.where(low & 16, -1, 0))
        letters.append((low + 48 + 32 * more).astype(np.uint8))
        used.append(going)
        going = more
    if not letters:
        return []
    table = np.stack(used, 1)
    text = np.stack(letters, 1)[table].tobytes()
    bounds = np.append(0, np.cumsum(np.bincount(mask, table.sum(1), number))).astype(int).tolist()
    return [{"size": list(size), "counts": text[a:b]} for a, b in pairwise(bounds)]


def from_mask(mask: np.ndarray) -> RLE:
    """Boolean mask ``(H, W)`` -> RLE."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def from_coco(segmentation: Any, size: Size) -> RLE:
    """A COCO ``segmentation`` (polygons, uncompressed or compressed RLE) -> RLE, whose counts may be :func:`damaged`.

    Raises:
        Exception: of any kind; it is none of these.
    """
    for outline in segmentation if isinstance(segmentation, list) else ():
        if isinstance(outline, list) and not all(abs(value) <= _FARTHEST for value in outline):
            raise ValueError("an outline leads to nowhere")  # pycocotools would crash
    codes = coco_mask.frPyObjects(segmentation, *size) if not _is_compressed(segmentation) else segmentation
    merged = coco_mask.merge(codes) if isinstance(codes, list) else codes
    return {"size": list(merged["size"]), "counts": _as_bytes(merged["counts"])}


def _is_compressed(segmentation: Any) -> bool:
    return isinstance(segmentation, dict) and isinstance(segmentation["counts"], str | bytes)


def to_mask(rle: RLE) -> np.ndarray:
    """RLE -> boolean mask ``(H, W)``."""
    return coco_mask.decode(rle).astype(bool)


def to_label_map(rles: list[RLE], size: Size) -> LabelMap:
    """Masks -> label map; where masks overlap the smaller one is on top (ties: the smaller index)."""
    labels = np.zeros(size, np.int32)
    for left, strip in label_strips(rles, size, max(1, STRIP // max(1, size[0]))):
        labels[:, left : left + strip.shape[1] - 2] = strip[:, 1:-1]
    return labels


def label_strips(rles: list[RLE], size: Size, columns: int) -> Iterator[tuple[int, LabelMap]]:
    """:func:`to_label_map` some columns at a time: the first one's index and the labels ``(H, columns + 2)``, with one
    column more on either side, of 0 beyond the image."""
    height, width = size
    owner, first, past = runs(rles)
    areas = np.bincount(owner, past - first, len(rles))
    order = np.lexsort((-owner, -areas[owner]))  # of several that are written to one place the last stays
    owner, first, past = owner[order], first[order], past[order]
    for left in range(0, width, columns):
        right = min(left + columns, width)
        start, end = (left - 1) * height, (right + 1) * height
        met = (first < end) & (past > start)
        begin, stop = np.maximum(first[met], start) - start, np.minimum(past[met], end) - start
        lengths = stop - begin
        places = spans(begin, lengths)
        strip = np.zeros((right - left + 2) * height, np.int32)
        strip[places] = np.repeat(owner[met] + 1, lengths)
        yield left, _turned(strip.reshape(-1, height))


def _turned(array: np.ndarray) -> np.ndarray:
    """Transposed into memory of its own, in blocks: numpy alone goes across it a number at a time."""
    turned = np.empty(array.shape[::-1], array.dtype)
    for top in range(0, len(array), _BLOCK):
        turned[:, top : top + _BLOCK] = array[top : top + _BLOCK].T
    return turned


def runs(rles: Sequence[RLE]) -> Runs:
    """The runs of all masks without decoding a pixel: ``(R,)`` the mask's index, the first position and the one past
    the last, in column order (x * H + y), sorted by mask and position.

    The counts may be text, as JSON holds them; those that another tool wrote may be :func:`damaged`.
    """
    numbers, owner, place = _numbers([_as_bytes(rle["counts"]) for rle in rles])
    until, inside = _cumulative(numbers, owner), (place % 2 == 1) & (numbers > 0)
    return owner[inside], (until - numbers)[inside], until[inside]


def damaged(rles: Sequence[RLE]) -> np.ndarray:
    """``(N,)`` bool: whose counts are not the run lengths of as many pixels as its size says."""
    texts = [_as_bytes(rle["counts"]) for rle in rles]
    letters = np.frombuffer(b"".join(texts), np.uint8)
    owner = _owners(texts)
    places, last = np.arange(len(letters)), np.append(owner[1:] != owner[:-1], True)[: len(letters)]
    foreign, going = (letters < _FIRST_LETTER) | (letters > _FIRST_LETTER + 63), ((letters - _FIRST_LETTER) & 32) > 0
    long = places - np.maximum.accumulate(np.where(going & ~last, -1, places)) >= _LONGEST
    unreadable = np.bincount(owner, foreign | (going & last) | long, len(texts)) > 0
    numbers, owner, _ = _numbers([b"" if bad else text for text, bad in zip(texts, unreadable, strict=True)])
    pixels = [rle["size"][0] * rle["size"][1] for rle in rles]
    negative = np.bincount(owner, numbers < 0, len(texts)) > 0
    return unreadable | negative | (np.bincount(owner, numbers, len(texts)) != pixels)


def _owners(texts: list[bytes]) -> np.ndarray:
    """Of which text each letter is."""
    return np.repeat(np.arange(len(texts)), np.array([len(text) for text in texts], np.int64))


def _as_bytes(counts: bytes | str) -> bytes:
    return counts.encode() if isinstance(counts, str) else counts


def _numbers(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """COCO's letters -> ``(K,)`` lengths of runs, background and mask in turn, whose mask each is of, and its place
    within the mask."""
    letters = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - _FIRST_LETTER
    if not len(letters):
        return (np.zeros(0, np.int64),) * 3
    ends = np.flatnonzero((letters & 32) == 0)  # the letters that end a number, least significant five bits first
    starts = np.append(0, ends[:-1] + 1)
    shifts = 5 * (np.arange(len(letters)) - np.repeat(starts, ends - starts + 1))
    numbers = np.add.reduceat((letters & 31) << shifts, starts)
    numbers -= np.where(letters[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)  # two's complement
    owner = _owners(texts)[ends]
    place = _cumulative(np.ones(len(owner), np.int64), owner) - 1
    for parity in (1, 0):  # from the fourth on a number is the difference to the last but one of its mask
        chain = np.flatnonzero((place % 2 == parity) & (place > 0))
        numbers[chain] = _cumulative(numbers[chain], owner[chain])
    return numbers, owner, place


def _cumulative(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Cumulative sums that begin anew with each of the ascending groups."""
    sums = np.cumsum(values)
    first = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))[: len(groups)]
    return sums - np.repeat((sums - values)[first], np.diff(first, append=len(groups)))


def spans(first: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The numbers ``first[i], ..., first[i] + size[i] - 1`` of all i, one after another."""
    before = np.cumsum(size) - size
    return np.repeat(first - before, size) + np.arange(size.sum())


def cut_at_columns(found: Runs, height: int) -> Runs:
    """Runs of masks of this height cut where a column ends, so that each piece is of column ``first // height``."""
    owner, first, past = found
    column = first // height
    pieces = (past - 1) // height - column + 1
    run, column = np.repeat(np.arange(len(pieces)), pieces), spans(column, pieces)
    return owner[run], np.maximum(first[run], column * height), np.minimum(past[run], (column + 1) * height)


def crops(rles: list[RLE]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Each mask as ``(x0, y0, pixels)``: the boolean pixels ``(h, w)`` within its bounding box, whose corner is
    (x0, y0). Work and memory go by the people, not by the image; an empty mask has no pixels, ``(0, 0)``."""
    owner, first, past = runs(rles)
    bounds = np.searchsorted(owner, np.arange(len(rles) + 1))
    for rle, (a, b) in zip(rles, pairwise(bounds), strict=True):
        places = spans(first[a:b], past[a:b] - first[a:b])
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
