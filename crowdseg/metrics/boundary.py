"""How well the outlines of paired masks agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from crowdseg import rle
from crowdseg.metrics.matching import reach
from crowdseg.metrics.runs import Runs

TOLERANCE = 2.0  # pixels between the centres of outline pixels that still agree


@dataclass(frozen=True)
class Outline:
    """The outline pixels of N masks: those of a mask with at least one of their four neighbours outside it.

    What lies beyond the image is outside.

    Attributes:
        points: ``(P, 2)`` int64 (x, y), sorted by mask.
        first, size: ``(N,)`` where a mask's points begin, and how many it has.
    """

    points: np.ndarray
    first: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, runs: Runs) -> Outline:
        """The outlines of all masks; work and memory grow with the outlines, not with the areas."""
        height, width = runs.size or (0, 0)
        # All masks lie on one line, far enough apart for the steps to the four neighbours to stay among a mask's own.
        column, span = height + 1, (height + 1) * (width + 2)
        mask, start, stop = rle.cut_at_columns((runs.mask, runs.start, runs.stop), max(height, 1))
        shift = mask * span + start // max(height, 1) + column  # one more pixel a column, and a column in front
        start, stop = start + shift, stop + shift
        edge = np.unique(np.concatenate([_outside(start, stop, step) for step in (1, -1, column, -column)]))
        owner, place = np.divmod(edge, span) if span else (edge, edge)
        x, y = np.divmod(place, column)
        size = np.bincount(owner, minlength=runs.number)
        return cls(np.stack([x - 1, y], axis=1), np.cumsum(size) - size, size)

    def in_planes(self, masks: np.ndarray, apart: float) -> tuple[np.ndarray, np.ndarray]:
        """Points ``(Q, 3)`` of the chosen masks, those of the k-th in the plane z = k * apart, and the k of each."""
        size = self.size[masks]
        group = np.repeat(np.arange(len(masks)), size)
        points = self.points[rle.spans(self.first[masks], size)]
        return np.concatenate([points, group[:, None] * apart], axis=1), group


def boundary_f(
    first: Outline, second: Outline, pairs: tuple[np.ndarray, np.ndarray], tolerance: float = TOLERANCE
) -> np.ndarray:
    """F-measure of the outlines of paired masks, which all own pixels.

    Precision is the share of the first outline's pixels at most ``tolerance`` from a pixel of the second, recall the
    share of the second's near the first, F their harmonic mean.

    Args:
        pairs: ``(K,)`` indices of masks on either side.
        tolerance: in pixels.

    Returns:
        ``(K,)`` float64 in [0, 1].
    """
    number = len(pairs[0])
    if not number:
        return np.zeros(0)
    # One tree for all pairs: each pair lies in a plane of its own, out of reach of the others.
    sides = [outline.in_planes(masks, 2 * tolerance + 1) for outline, masks in ((first, pairs[0]), (second, pairs[1]))]
    shares = []
    for (points, group), (others, _) in (sides, sides[::-1]):
        distance, _ = cKDTree(others).query(points, distance_upper_bound=reach(tolerance))
        shares.append(np.bincount(group, np.isfinite(distance), number) / np.bincount(group, minlength=number))
    precision, recall = shares
    return 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)


def _outside(start: np.ndarray, stop: np.ndarray, step: int) -> np.ndarray:
    """The positions inside the runs (disjoint) from which ``step`` leads out of all of them."""
    places = np.concatenate([start, stop, start - step, stop - step])
    number = len(start)
    order = np.argsort(places, kind="stable")
    inside = np.cumsum(np.repeat([1, -1, 0, 0], number)[order])
    covered = np.cumsum(np.repeat([0, 0, 1, -1], number)[order])
    ordered = places[order]
    lone = np.flatnonzero((inside[:-1] > 0) & (covered[:-1] == 0) & (ordered[1:] > ordered[:-1]))
    return rle.spans(ordered[lone], ordered[lone + 1] - ordered[lone])
