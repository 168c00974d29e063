"""Masks of one image as runs of pixels, so that many masks are handled at once and none is ever drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowdseg import rle
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
            ValueError: the masks of a list differ in size, or a label map has labels above ``number``.
        """
        if isinstance(masks, np.ndarray):
            largest = int(masks.max(initial=0))
            if number is not None and largest > number:
                raise ValueError(f"expected labels up to {number}, got {largest}")
            mask, start, stop = rle.runs_of_labels(masks)
            order = np.argsort(mask, kind="stable")
            return cls(mask[order], start[order], stop[order], largest if number is None else number, masks.shape)
        sizes = {tuple(mask["size"]) for mask in masks}
        if len(sizes) > 1:
            raise ValueError(f"expected masks of one size, got {sorted(sizes)}")
        return cls(*rle.runs(masks), len(masks), next(iter(sizes), None))

    @property
    def areas(self) -> np.ndarray:
        """``(N,)`` int64 pixels of each mask."""
        return np.bincount(self.mask, self.stop - self.start, self.number).astype(np.int64)

    @property
    def union(self) -> Runs:
        """The pixels of all masks as one mask."""
        order = np.argsort(self.start, kind="stable")
        start, until = self.start[order], np.maximum.accumulate(self.stop[order])
        begins = np.append(True, start[1:] > until[:-1])[: len(start)]
        stop = until[np.append(begins[1:], True)[: len(start)]]
        return Runs(np.zeros(len(stop), np.int64), start[begins], stop, 1, self.size)


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
    return order[rle.spans(low, size)], np.repeat(np.arange(len(start)), size)
