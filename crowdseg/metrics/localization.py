"""Precision, recall and F1 of points matched one-to-one within a distance (the NWPU-Crowd protocol), and their mean
over 1, 2, ..., 100 px (the UCF-QNRF protocol)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from crowdseg.metrics.matching import Candidates, Matches, maximum_matching, reach
from crowdseg.structures import Points

PIXEL_SIGMAS = (4.0, 8.0)  # ShanghaiTech's, where heads have no boxes
AVERAGED = 100  # distances of 1, 2, ... this many pixels
AVERAGE = f"1-{AVERAGED} px"


@dataclass
class Localization:
    """Accumulates matches within one or more distances: ``update``, ``compute``, ``reset``."""

    _totals: dict[str, Matches] = field(default_factory=dict)

    def update(
        self, predicted: Points, true: Points, sigmas: dict[str, float | np.ndarray] | None = None
    ) -> dict[str, Matches]:
        """Add one image.

        Args:
            predicted: ``(N, 2)`` points (x, y) in pixels.
            true: ``(M, 2)`` points.
            sigmas: name -> greatest distance in pixels, one for all or ``(M,)`` one per true point; default 4 and 8 px.

        Returns:
            The matches of this image under the same names, and under :data:`AVERAGE` their mean over 1 to 100 px.
        """
        matches = {name: match_points(predicted, true, sigma) for name, sigma in (sigmas or pixel_sigmas()).items()}
        matches[AVERAGE] = average_matches(predicted, true)
        for name, found in matches.items():
            self._totals[name] = self._totals.get(name, Matches()) + found
        return matches

    def compute(self) -> dict[str, Matches]:
        """Matches of all images together, by name of the distance."""
        return dict(self._totals)

    def reset(self) -> None:
        """Forget all images."""
        self._totals.clear()


def match_points(predicted: Points, true: Points, sigma: float | np.ndarray) -> Matches:
    """How large the matching of :func:`partners` is."""
    partner = partners(predicted, true, sigma)
    return Matches(int((partner >= 0).sum()), len(predicted), len(true))


def partners(predicted: Points, true: Points, sigma: float | np.ndarray) -> np.ndarray:
    """Who found whom in the largest one-to-one matching in which each pair lies at most ``sigma`` apart.

    Args:
        predicted: ``(N, 2)`` points (x, y) in pixels.
        true: ``(M, 2)`` points.
        sigma: pixels, one for all or ``(M,)`` one per true point.

    Returns:
        ``(M,)`` the index of each true point's partner, -1 where it has none.
    """
    predicted, true = _as_points(predicted), _as_points(true)
    if not len(predicted) or not len(true):
        return np.full(len(true), -1)
    sigma = np.broadcast_to(np.asarray(sigma, float), len(true))
    near = cKDTree(predicted).query_ball_point(true, reach(sigma))
    rows = np.repeat(np.arange(len(true)), [len(found) for found in near])
    columns = np.concatenate(near).astype(np.int64)
    return maximum_matching(Candidates.of(rows, columns, (len(true), len(predicted))))


def average_matches(predicted: Points, true: Points) -> Matches:
    """The mean of the largest matchings within 1, 2, ..., 100 px.

    As the numbers of points are the same at every distance, its precision, recall and F1 are the means of theirs.
    """
    return Matches(float(np.mean(matched_within(predicted, true))), len(predicted), len(true))


def matched_within(predicted: Points, true: Points, farthest: int = AVERAGED) -> np.ndarray:
    """``(farthest,)`` int64 sizes of the largest one-to-one matchings within 1, 2, ... ``farthest`` pixels."""
    predicted, true = _as_points(predicted), _as_points(true)
    if not len(predicted) or not len(true):
        return np.zeros(farthest, np.int64)
    trees, shape = (cKDTree(predicted), cKDTree(true)), (len(predicted), len(true))
    sizes = np.zeros(farthest + 1, np.int64)
    low, partner = 0, np.full(len(predicted), -1)
    while low < farthest and sizes[low] < min(shape):
        high = min(2 * low or 1, farthest)
        near = trees[0].sparse_distance_matrix(trees[1], reach(high), output_type="ndarray")
        partner = _fill(sizes, low, high, _Near.of(near, shape), partner)
        low = high
    sizes[low:] = sizes[low]
    return sizes[1:]


@dataclass(frozen=True)
class _Near:
    """Pairs of points and how far apart they are, in the order of the candidates."""

    candidates: Candidates
    distance: np.ndarray

    @classmethod
    def of(cls, pairs: np.ndarray, shape: tuple[int, int]) -> _Near:
        """From scipy's records (i, j, v)."""
        pairs = pairs[np.argsort(pairs["i"], kind="stable")]
        return cls(Candidates.of(pairs["i"], pairs["j"], shape), pairs["v"])

    def within(self, distance: float) -> Candidates:
        """Only the pairs at most so far apart."""
        near = self.distance <= reach(distance)
        before = np.concatenate([[0], np.cumsum(near)])
        return Candidates(before[self.candidates.first], self.candidates.column[near], self.candidates.columns)


def _fill(sizes: np.ndarray, low: int, high: int, near: _Near, partner: np.ndarray) -> np.ndarray:
    """Fill in the sizes above ``low`` up to ``high``; returns the matching at ``high``.

    ``partner`` is the matching at ``low``, from which all others grow; between equal sizes there is nothing to find.
    """
    found = maximum_matching(near.within(high), partner)
    sizes[high] = (found >= 0).sum()
    _bisect(sizes, low, high, near, partner)
    return found


def _bisect(sizes: np.ndarray, low: int, high: int, near: _Near, partner: np.ndarray) -> None:
    """Fill in the sizes between two that are known."""
    if sizes[low] == sizes[high]:
        sizes[low:high] = sizes[low]
    elif high - low > 1:
        middle = (low + high) // 2
        found = _fill(sizes, low, middle, near, partner)
        _bisect(sizes, middle, high, near, found)


def _as_points(points: Points) -> Points:
    return np.asarray(points, float).reshape(-1, 2)


def pixel_sigmas() -> dict[str, float | np.ndarray]:
    """The fixed distances, by name."""
    return {f"{sigma:g} px": sigma for sigma in PIXEL_SIGMAS}


def box_sigmas(boxes: np.ndarray) -> dict[str, float | np.ndarray]:
    """NWPU-Crowd's distances from the ``(M, 4)`` boxes: sigma_s = min(w, h) / 2, sigma_l = half the diagonal."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return {"sigma_s": sides.min(axis=1) / 2, "sigma_l": np.hypot(*sides.T) / 2}
