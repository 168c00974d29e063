"""Masks and points drawn over a photograph, legible for a few people and for ten thousand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from crowdseg.structures import LabelMap, Points

Picture = NDArray[np.uint8]

# Twelve light, saturated colours, well apart in hue; neighbours take different ones.
_COLOURS = np.array(
    [
        (255, 89, 94), (54, 197, 240), (255, 202, 58), (160, 108, 255), (138, 201, 38), (255, 146, 43),
        (0, 214, 170), (255, 112, 197), (90, 140, 255), (214, 255, 94), (255, 160, 150), (120, 255, 230),
    ],
    np.float32,
)  # fmt: skip
_FILL = 0.42


def draw_overlay(
    image: NDArray[np.uint8],
    labels: LabelMap | None = None,
    points: Points | None = None,
    *,
    scores: NDArray[np.float32] | None = None,
    min_side: int = 480,
) -> Picture:
    """Tint each person's mask, outline it, and mark each point.

    Args:
        image: ``(H, W, 3)`` RGB.
        labels: ``(H, W)`` label map, n + 1 for the n-th person.
        points: ``(N, 2)`` as (x, y) in pixels.
        scores: ``(N,)`` in [0, 1]; points fade with a low score.
        min_side: smaller images are enlarged by a whole factor until their long side reaches this.

    Returns:
        ``(k H, k W, 3)`` with a whole k >= 1.
    """
    zoom = max(1, -(-min_side // max(image.shape[:2])))
    picture = np.repeat(np.repeat(image, zoom, axis=0), zoom, axis=1).astype(np.float32)
    number = max(int(labels.max(initial=0)) if labels is not None else 0, 0 if points is None else len(points))
    if labels is not None and labels.any():
        labels = np.repeat(np.repeat(labels, zoom, axis=0), zoom, axis=1)
        _tint(picture, labels, _distinct_colours(labels, number))
    if points is not None and len(points):
        places = (np.asarray(points, np.float64) + 0.5) * zoom - 0.5
        _mark(picture, places, np.ones(len(places)) if scores is None else np.asarray(scores, np.float64))
    return np.rint(picture.clip(0, 255)).astype(np.uint8)


def _distinct_colours(labels: LabelMap, number: int) -> NDArray[np.float32]:
    """``(number + 1, 3)`` colours by label: greedily one that no touching or close mask has."""
    chosen = np.full(number + 1, -1)
    for label, near in _neighbours(labels, number):
        taken = set(chosen[near])
        start = label * 5 % len(_COLOURS)  # a stride through the palette, so that all colours are used
        free = (colour for step in range(len(_COLOURS)) if (colour := (start + step) % len(_COLOURS)) not in taken)
        chosen[label] = next(free, start)
    return np.where((chosen >= 0)[:, None], _COLOURS[chosen], 0)


def _neighbours(labels: LabelMap, number: int) -> list[tuple[int, NDArray[np.intp]]]:
    """Every label with the labels of the up to eight masks whose middles are nearest to its own."""
    rows, columns = np.nonzero(labels)
    of = labels[rows, columns]
    area = np.bincount(of, minlength=number + 1)
    present = np.flatnonzero(area)
    middles = np.stack([np.bincount(of, each, number + 1)[present] / area[present] for each in (columns, rows)], axis=1)
    near = cKDTree(middles).query(middles, k=min(9, len(present)))[1].reshape(len(present), -1)
    return [(int(label), present[row]) for label, row in zip(present, near, strict=True)]


def _tint(picture: NDArray[np.float32], labels: LabelMap, colours: NDArray[np.float32]) -> None:
    inside = labels > 0
    picture[inside] = picture[inside] * (1 - _FILL) + colours[labels[inside]] * _FILL
    edge = inside & (ndimage.grey_erosion(labels, footprint=ndimage.generate_binary_structure(2, 1)) != labels)
    edge |= inside & (ndimage.grey_dilation(labels, footprint=ndimage.generate_binary_structure(2, 1)) != labels)
    picture[edge] = picture[edge] * 0.1 + colours[labels[edge]] * 0.9


def _mark(picture: NDArray[np.float32], places: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
    """White dots with a dark rim, as large as the room between points allows."""
    height, width = picture.shape[:2]
    room = cKDTree(places).query(places, k=2)[0][:, 1] if len(places) > 1 else np.full(1, np.inf)
    sizes = np.clip(room / 7, 0.9, max(2.0, max(height, width) / 350))
    for (x, y), size, score in zip(places, sizes, scores, strict=True):
        reach = int(np.ceil(size + 2))
        rows = slice(max(0, int(y) - reach), min(height, int(y) + reach + 1))
        columns = slice(max(0, int(x) - reach), min(width, int(x) + reach + 1))
        right, below = np.arange(columns.start, columns.stop)[None] - x, np.arange(rows.start, rows.stop)[:, None] - y
        distance = np.hypot(right, below)[..., None]
        opacity = 0.35 + 0.65 * float(np.clip(score, 0, 1))
        rim, dot = (opacity * np.clip(size + grow - distance, 0, 1) for grow in (1.4, 0.4))
        area = picture[rows, columns] * (1 - 0.7 * rim)
        picture[rows, columns] = area * (1 - dot) + 255 * dot
