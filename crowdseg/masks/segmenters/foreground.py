"""What tells an image's people from its ground, learnt from first masks of the same image.

First masks go by two colours per person; each errs in its own way. A classifier of pixels that is fitted to all of them
at once, and can say no more than colours and edges at a few scales allow, keeps what they have in common.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, special

from crowdseg.masks.segmenters.outlines import Floats
from crowdseg.structures import LabelMap

_BLURS = (0.7, 1.5, 3.0)  # px
_SAMPLES = 1500  # pixels of people, and as many of the ground
_FEWEST = 20  # of either; with less there is nothing to learn
_RIDGE = 1e-4


def learn_foreground(colours: Floats, labels: LabelMap, near: NDArray[np.bool_]) -> Floats | None:
    """Log-odds ``(H, W)`` that a pixel is a person's, by logistic regression on ``labels`` where ``near`` holds.

    ``colours`` ``(H, W, C)``. None where there are hardly any people, or hardly any ground.
    """
    people, ground = np.flatnonzero(near & (labels > 0)), np.flatnonzero(near & (labels == 0))
    if min(len(people), len(ground)) < _FEWEST:
        return None
    people, ground = _some(people), _some(ground)
    layers = [*np.moveaxis(colours, -1, 0), edges(colours)]
    pixels = np.concatenate([people, ground])
    samples = np.stack([_blurred(layer, blur).ravel()[pixels] for blur in _BLURS for layer in layers], axis=1)
    people_weigh = 1 / np.bincount(labels.ravel())[labels.ravel()[people]]  # everybody the same, large or small
    slopes, offset = _logistic(samples.astype(np.float64), people_weigh)
    # Blurring is linear: what layers add up to is blurred once per scale, and no more than a plane is held.
    odds = np.full(labels.shape, offset, np.float32)
    for blur, parts in zip(_BLURS, slopes.astype(np.float32).reshape(len(_BLURS), -1), strict=True):
        odds += _blurred(sum(part * layer for part, layer in zip(parts, layers, strict=True)), blur)
    return odds


def edges(colours: Floats) -> Floats:
    """Gradient magnitude over the channels ``(H, W)``."""
    total = sum(ndimage.gaussian_gradient_magnitude(each, 1.0) ** 2 for each in np.moveaxis(colours, -1, 0))
    return np.sqrt(total)


def _some(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most ``_SAMPLES``, spread evenly."""
    return pixels[np.linspace(0, len(pixels) - 1, min(_SAMPLES, len(pixels))).astype(np.intp)]


def _blurred(layer: Floats, blur: float) -> Floats:
    return ndimage.gaussian_filter(layer, blur, truncate=3.0)


def _logistic(samples: NDArray[np.float64], people_weigh: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Samples ``(n, F)``, first those of people with their weights -> slopes ``(F,)`` and offset of the log-odds."""
    people, ground = len(people_weigh), len(samples) - len(people_weigh)
    centre, spread = samples.mean(axis=0), samples.std(axis=0) + 1e-3
    inputs = np.c_[(samples - centre) / spread, np.ones(len(samples))]
    sign = np.repeat([1.0, -1.0], [people, ground])
    weights = np.concatenate([people_weigh / people_weigh.sum(), np.full(ground, 1 / ground)]) / 2

    def loss(slopes: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (inputs @ slopes)
        value = weights @ np.logaddexp(0, -margin) + 0.5 * _RIDGE * (slopes @ slopes)
        return value, _RIDGE * slopes - (weights * sign * special.expit(-margin)) @ inputs

    found = optimize.minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
    slopes = found[:-1] / spread
    return slopes, float(found[-1] - centre @ slopes)
