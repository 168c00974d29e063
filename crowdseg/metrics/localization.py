"""Precision, recall and F1 of points matched one-to-one within a distance (the NWPU-Crowd protocol)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from crowdseg.metrics.matching import Matches, maximum_matching
from crowdseg.structures import Points

PIXEL_SIGMAS = (4.0, 8.0)  # ShanghaiTech's, where heads have no boxes


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
            The matches of this image under the same names.
        """
        matches = {name: match_points(predicted, true, sigma) for name, sigma in (sigmas or pixel_sigmas()).items()}
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
    predicted, true = np.asarray(predicted, float).reshape(-1, 2), np.asarray(true, float).reshape(-1, 2)
    if not len(predicted) or not len(true):
        return np.full(len(true), -1)
    sigma = np.broadcast_to(np.asarray(sigma, float), len(true))
    near = cKDTree(predicted).query_ball_point(true, sigma)
    rows = np.repeat(np.arange(len(true)), [len(found) for found in near])
    columns = np.concatenate(near).astype(np.int64)
    return maximum_matching(rows, columns, (len(true), len(predicted)))


def pixel_sigmas() -> dict[str, float | np.ndarray]:
    """The fixed distances, by name."""
    return {f"{sigma:g} px": sigma for sigma in PIXEL_SIGMAS}


def box_sigmas(boxes: np.ndarray) -> dict[str, float | np.ndarray]:
    """NWPU-Crowd's distances from the ``(M, 4)`` boxes: sigma_s = min(w, h) / 2, sigma_l = half the diagonal."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return {"sigma_s": sides.min(axis=1) / 2, "sigma_l": np.hypot(*sides.T) / 2}
