"""Simple ways from points to masks, against which the default route of ``crowdseg prep-masks`` is measured.

Each is ``(H, W, 3)`` RGB and ``(N, 2)`` points -> label map, and knows the exclusion circles as ours does. What they
leave open is the best of a few tries on every other image of the sets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu
from skimage.segmentation import random_walker, watershed

from crowdseg.masks.crowd import Crowd, Window
from crowdseg.masks.exclusion import keep_points, settle
from crowdseg.masks.superpixels import patches
from crowdseg.structures import LabelMap, Points

Image = NDArray[np.uint8]
Route = Callable[[Image, Points], LabelMap]
_BETA = 5000.0  # of the random walker: how much a difference of colour hinders it


def circles(image: Image, points: Points) -> LabelMap:
    """Each pixel to the nearest point whose exclusion circle contains it."""
    return Crowd.of(points, image.shape[:2]).nearest


def half_circles(image: Image, points: Points) -> LabelMap:
    """The circles' lower halves, where a person's body is."""
    labels = circles(image, points)
    rows, columns = np.nonzero(labels)
    above = rows < points[labels[rows, columns] - 1, 1]
    labels[rows[above], columns[above]] = 0
    return labels


def superpixel(image: Image, points: Points) -> LabelMap:
    """The SLIC segment under each point, cut to its circle."""
    crowd = Crowd.of(points, image.shape[:2])
    return settle(patches(image, crowd), crowd)


def colour_split(image: Image, points: Points) -> LabelMap:
    """In each circle, Otsu's threshold on the colour distance to the point."""
    crowd, lab = Crowd.of(points, image.shape[:2]), _smooth_lab(image)
    labels = np.zeros(crowd.size, np.int32)
    rows, columns = crowd.pixels
    for index in range(len(crowd)):
        window = crowd.window(index, crowd.radii[index])
        circle = crowd.inside(index, window)
        seed = lab[max(0, rows[index] - 1) : rows[index] + 2, max(0, columns[index] - 1) : columns[index] + 2]
        distance = np.linalg.norm(lab[window] - seed.mean(axis=(0, 1)), axis=-1)
        found = distance[circle]
        near = distance <= (threshold_otsu(found) if np.ptp(found) > 0 else np.inf)
        labels[window][circle & near & (crowd.nearest[window] == index + 1)] = index + 1
    return labels


def seeded_watershed(image: Image, points: Points) -> LabelMap:
    """Watershed on the colour gradient: seeds are the points' surroundings, and what lies outside all circles."""
    crowd, lab = Crowd.of(points, image.shape[:2]), rgb2lab(image)
    relief = np.sqrt(sum(ndimage.gaussian_gradient_magnitude(lab[..., c], 1.0) ** 2 for c in range(3)))
    ground = len(crowd) + 1
    labels = watershed(relief, np.where(crowd.nearest == 0, ground, _seeds(crowd, 0.1))).astype(np.int32)
    return np.where(labels == ground, 0, labels)


def walker(image: Image, points: Points) -> LabelMap:
    """A random walker for each person: does it reach the point's surroundings or the territory's rim first?"""
    crowd, lab = Crowd.of(points, image.shape[:2]), _smooth_lab(image) / 100
    seeds, labels = _seeds(crowd, 0.2), np.zeros(crowd.size, np.int32)
    for index in range(len(crowd)):
        window = crowd.window(index, crowd.radii[index] + 1)
        labels[window][_walked(lab[window], seeds[window], crowd, index, window)] = index + 1
    return keep_points(labels, crowd)


def _walked(lab: NDArray, seeds: LabelMap, crowd: Crowd, index: int, window: Window) -> NDArray[np.bool_]:
    """``lab`` and ``seeds`` of the window -> the pixels from which the walker comes to the person first."""
    person = seeds == index + 1
    rim = np.hypot(*crowd.offsets(index, window)) > crowd.radii[index] - 1
    rim = (rim | (crowd.nearest[window] != index + 1)) & ~person
    if not rim.any() or (rim | person).all():
        return person
    ends = np.where(person, 1, np.where(rim, 2, 0))
    return random_walker(lab, ends, _BETA, mode="cg_j", prob_tol=np.inf, channel_axis=-1) == 1


def _smooth_lab(image: Image) -> NDArray:
    return ndimage.gaussian_filter(rgb2lab(image), (1, 1, 0))


def _seeds(crowd: Crowd, share: float) -> LabelMap:
    """Label map of discs around the points, with ``share`` of the circles' radii; at least the points' pixels."""
    labels = np.zeros(crowd.size, np.int32)
    for index in range(len(crowd)):
        window = crowd.window(index, share * crowd.radii[index])
        disc = np.hypot(*crowd.offsets(index, window)) <= share * crowd.radii[index]
        labels[window][disc & (crowd.nearest[window] == index + 1)] = index + 1
    return keep_points(labels, crowd)
