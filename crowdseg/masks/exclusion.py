"""Settles what neighbouring people both claim: afterwards every pixel belongs to one person at most."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from crowdseg.masks.crowd import Crowd
from crowdseg.masks.segmenters.base import Claim
from crowdseg.structures import LabelMap

# A learned segmenter's claim beats one grown from superpixels, and that one beats a bare disc, whatever the strengths.
_PRECEDENCE = {"disc": 0.0, "superpixel": 100.0, "sam": 200.0}


def settle(claims: Iterable[Claim], crowd: Crowd) -> LabelMap:
    """``(H, W)`` int32 label map; every person keeps at least the pixel of its point, unless two points share it."""
    labels = np.zeros(crowd.size, np.int32)
    strongest = np.full(crowd.size, -np.inf, np.float32)
    for claim in claims:
        strength = np.where(claim.mask, claim.strength.clip(-50, 50) + np.float32(_PRECEDENCE[claim.source]), -np.inf)
        held = strongest[claim.window]
        wins = strength > held
        held[wins] = strength[wins]
        labels[claim.window][wins] = claim.index + 1
    return keep_points(labels, crowd)


def keep_points(labels: LabelMap, crowd: Crowd) -> LabelMap:
    """Give the pixel of each point to its person, in place; of coincident points the first has it."""
    rows, columns = crowd.pixels
    labels[rows[::-1], columns[::-1]] = np.arange(len(crowd), 0, -1)
    return labels


def disc(crowd: Crowd, index: int) -> Claim:
    """The last resort: a disc of half the circle's radius."""
    window = crowd.window(index, crowd.radii[index] / 2)
    right, below = crowd.offsets(index, window)
    relative = np.hypot(right, below) / crowd.radii[index]
    return Claim(index, window, relative <= 0.5, (-relative).astype(np.float32), "disc")
