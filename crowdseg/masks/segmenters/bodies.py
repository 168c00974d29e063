"""People as bodies below a head: a shape below the point, then superpixels by the colours inside and outside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from crowdseg.masks.crowd import Crowd, Window
from crowdseg.masks.segmenters.base import Claim, part_at
from crowdseg.masks.superpixels import LEAST_AREA, superpixels

_CODES = 48  # colours told apart
_WIDTH = 0.35  # half a body's width: at most this share of the circle's radius ...
_WIDEST = 0.08  # ... and of the image's short side; at least, if that leaves room, ...
_NARROWEST = 2.0  # ... this many px
_WIDTHS = 7  # tried, from the narrowest to the widest
_HEAD = 0.5  # the head reaches this many half widths above the point
_HEIGHT = 7.5  # the feet are this many half widths below it
_AROUND = 2.5  # a body is told from what lies within a shape this many times as large
_SOFT = 0.3  # the shape's softness, in half widths
_ROUNDS = 3
_COLOUR = 2.0  # most that colour can say, in log odds; the shape can say 3

Codes = NDArray[np.intp]


def body_claims(lab: NDArray[np.float32], crowd: Crowd) -> Iterator[Claim]:
    """``lab`` ``(H, W, 3)`` -> one claim per person, its strength the log odds."""
    codes = _codes(lab)
    overall = np.bincount(codes.ravel(), minlength=_CODES) / codes.size
    rows, columns = crowd.pixels
    for index in range(len(crowd)):
        window = crowd.window(index, crowd.radii[index])
        mine = crowd.inside(index, window)
        nearest = crowd.nearest[window]
        own = nearest == index + 1
        shape = _best_shape(crowd, index, window, codes[window], mine & own)
        odds = _log_odds(shape, codes[window], mine, own, overall)
        at = rows[index] - window[0].start, columns[index] - window[1].start
        mask = (odds > 0) & mine & own
        mask[at] = True
        yield Claim(index, window, part_at(mask, *at) & mine, odds.astype(np.float32), "superpixel")


def _codes(lab: NDArray[np.float32]) -> Codes:
    """``(H, W)`` which of the image's typical colours each pixel's superpixel has."""
    segments = superpixels(lab, LEAST_AREA)
    area = np.bincount(segments.ravel())
    sums = np.stack([np.bincount(segments.ravel(), channel.ravel()) for channel in np.moveaxis(lab, -1, 0)], axis=1)
    means = sums / np.maximum(area, 1)[:, None]
    generator = np.random.default_rng(0)
    some = np.unique(means[generator.choice(len(means), min(len(means), 8000), replace=False)], axis=0)
    typical = kmeans2(some, _CODES, iter=8, minit="++", rng=generator)[0] if len(some) > _CODES else some
    return cKDTree(typical).query(means)[1][segments]


def _best_shape(crowd: Crowd, index: int, window: Window, codes: Codes, own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log odds by shape alone, of the width that tells the body's colours best from those around it.

    A shape is a column below the point with half an ellipse above it. Told by the mutual information of colour and
    shape; the root of the width weighs against small shapes, which a few colours fit by chance.
    """
    right, below = crowd.offsets(index, window)
    outward = np.where(below < 0, np.hypot(right, below / _HEAD), np.abs(right))
    widest = max(1.0, min(_WIDTH * crowd.radii[index], _WIDEST * min(crowd.size)))
    best, most = None, -1.0
    for half in np.geomspace(min(_NARROWEST, widest), widest, _WIDTHS):
        shape = np.minimum((1 - outward / half) / _SOFT, (_HEIGHT - below / half) / (2 * _SOFT)).clip(-3, 3)
        around = own & (outward < _AROUND * half) & (below < _AROUND * half * _HEIGHT / 2)
        told = _information(codes[around], 1 / (1 + np.exp(-shape[around]))) * np.sqrt(half)
        if told > most:
            best, most = shape, told
    assert best is not None
    return best


def _information(codes: Codes, inside: NDArray[np.float64]) -> float:
    """Mutual information, in nats per pixel, of a pixel's colour ``(P,)`` and of whether it lies inside ``(P,)``."""
    joint = np.stack([np.bincount(codes, weights, _CODES) for weights in (inside, 1 - inside)]) / max(len(codes), 1)
    apart = joint.sum(0) * joint.sum(1, keepdims=True)
    used = joint > 0
    return float((joint[used] * np.log(joint[used] / apart[used])).sum())


def _log_odds(
    shape: NDArray, codes: Codes, circle: NDArray[np.bool_], own: NDArray[np.bool_], overall: NDArray
) -> NDArray[np.float64]:
    """Shape and colour together; what the colours are and where the body is are found in turn."""
    odds, other = shape, circle & own
    for _ in range(_ROUNDS):
        inside = 1 / (1 + np.exp(-odds))
        person = np.bincount(codes[circle], inside[circle], _CODES) + 1
        around = np.bincount(codes[other], 1 - inside[other], _CODES) + 1 + 20 * overall
        colour = np.log(person / person.sum() * around.sum() / around).clip(-_COLOUR, _COLOUR)
        odds = shape + colour[codes]
    return shape + ndimage.gaussian_filter(colour[codes], 1.0)  # rounds the superpixels' corners
