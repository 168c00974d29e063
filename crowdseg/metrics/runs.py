"""Masks of one image as runs of pixels, so that many masks are handled at once and none is ever drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowdseg.structures import RLE, LabelMap, Size

Masks = LabelMap | list[RLE]  # exclusive label map, or masks that may overlap


@dataclass(frozen=True)
class Runs:
    """The foreground of N masks: pixels ``start`` to ``stop`` (exclusive), counted down the columns as in COCO's RLE.

    Attributes:
        mask, start, stop: ``(R,)`` int64, sorted by mask, then start; a mask's runs are apart.
        number: N, masks without a pixel included.
        size: ``(H, W)``, or None where there are no masks to tell it.
    """

    mask: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    number: int
    size: Size | None

    @classmethod
    def of(cls, masks: Masks, number: int | None = None) -> Runs:
        """The runs of a label map (n + 1 the n-th mask) or of a list of masks.

        Args:
            masks: ``(H, W)`` label map or N masks.
            number: N where the last masks of a label map may own no pixel; default its largest label.

        Raises:
            ValueError: the masks of a list differ in size.
        """
        return _from_labels(masks, number) if isinstance(masks, np.ndarray) else _from_rles(masks)

    @property
    def areas(self) -> np.ndarray:
        """``(N,)`` int64 pixels of each mask."""
        return np.bincount(self.mask, self.stop - self.start, self.number).astype(np.int64)


def shared_pixels(first: Runs, second: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of masks that share pixels: indices into both, sorted by the first, and how many pixels.

    Work and memory grow with the runs and the pairs of them that meet, not with the number of pairs of masks.
    """
    # Two runs meet where the one begins inside the other; where both begin together the pair is found once.
    j, i = _beginning_inside(second.start, first.start, first.stop)
    i_, j_ = _beginning_inside(first.start, second.start + 1, second.stop)
    i, j = np.concatenate([i, i_]), np.concatenate([j, j_])
    pixels = np.minimum(first.stop[i], second.stop[j]) - np.maximum(first.start[i], second.start[j])
    codes, inverse = np.unique(first.mask[i] * max(second.number, 1) + second.mask[j], return_inverse=True)
    rows, columns = np.divmod(codes, max(second.number, 1))
    return rows, columns, np.bincount(inverse.ravel(), pixels, len(codes)).astype(np.int64)


def _beginning_inside(begin: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (k, r) with ``start[r] <= begin[k] < stop[r]``."""
    order = np.argsort(begin, kind="stable")
    low, high = (np.searchsorted(begin, edge, side="left", sorter=order) for edge in (start, stop))
    size = np.maximum(high - low, 0)
    return order[spans(low, size)], np.repeat(np.arange(len(start)), size)


def spans(first: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The numbers ``first[i], ..., first[i] + size[i] - 1`` of all i, one after another."""
    before = np.cumsum(size) - size
    return np.repeat(first - before, size) + np.arange(size.sum())


def _from_labels(labels: LabelMap, number: int | None) -> Runs:
    flat = np.asarray(labels).ravel(order="F")
    edges = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1], [True]])) if flat.size else np.zeros(1, int)
    label = flat[edges[:-1]].astype(np.int64)
    order = np.argsort(label, kind="stable")
    order = order[np.searchsorted(label[order], 1) :]
    count = int(labels.max(initial=0)) if number is None else number
    return Runs(label[order] - 1, edges[:-1][order], edges[1:][order], count, labels.shape)


def _from_rles(masks: list[RLE]) -> Runs:
    sizes = {tuple(mask["size"]) for mask in masks}
    if len(sizes) > 1:
        raise ValueError(f"expected masks of one size, got {sorted(sizes)}")
    lengths, owner, place = _decode([_as_bytes(mask["counts"]) for mask in masks])
    ends = _cumulative(lengths, owner)
    full = (place % 2 == 1) & (lengths > 0)  # background and foreground take turns, background first
    return Runs(owner[full], (ends - lengths)[full], ends[full], len(masks), next(iter(sizes), None))


def _as_bytes(counts: bytes | str) -> bytes:
    return counts.encode() if isinstance(counts, str) else counts


def _decode(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """COCO's compressed run lengths: ``(K,)`` lengths, whose mask each is of, and its place within the mask.

    A number is written in characters from 48 on, five bits each, the lowest first; a sixth bit says that more follow,
    and the last one's fifth is the sign. From the fourth number on it is the difference to the one before the last.
    """
    letters = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    last = (letters & 0x20) == 0
    ends = np.flatnonzero(last) + 1
    starts = np.concatenate([[0], ends])[: len(ends)]
    digit = np.arange(len(letters)) - np.repeat(starts, ends - starts)
    numbers = np.add.reduceat((letters & 0x1F) << 5 * digit, starts) if len(starts) else np.zeros(0, np.int64)
    numbers -= np.where(letters[ends - 1] & 0x10, 1 << 5 * (ends - starts), 0)
    sizes = np.diff(np.concatenate([[0], np.cumsum(last)])[np.cumsum([0, *map(len, texts)])])
    owner = np.repeat(np.arange(len(texts)), sizes)
    place = spans(np.zeros(len(texts), np.int64), sizes)
    for odd in (0, 1):
        chain = (place % 2 == odd) & (place > 0)
        numbers[chain] = _cumulative(numbers[chain], owner[chain])
    return numbers, owner, place


def _cumulative(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Cumulative sums that begin anew with each owner (ascending)."""
    total = np.cumsum(values)
    begins = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))[: len(values)]
    before = (total - values)[begins]
    return total - np.repeat(before, np.diff(np.append(begins, len(values))))
