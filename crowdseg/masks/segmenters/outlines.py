"""Star-shaped outlines around points: along each ray, how far the person reaches.

Around every point the image is sampled on a polar grid with geometric radii, so that a person of 5 px and one of 500
are treated alike. Two colours, of the person and of its surroundings, and a smooth closed outline between them are
fitted in turn (a two-region, piecewise constant model in polar coordinates, drawn to edges); for given colours the best
outline is found exactly, by dynamic programming around the point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crowdseg.masks.crowd import Crowd

Floats = NDArray[np.float32]

RAYS, STEPS = 32, 40
_STARTS = (0.25, 0.4, 0.6, 0.8)  # outlines to start from, as shares of the steps
_ROUNDS = 6
_CORE = 5  # steps around the point that are taken for the person's
_FAR_WEIGHT = 0.35  # samples at distance d weigh d^0.35: between equal rings and equal pixels
_JUMP, _JUMP_COST = 3, 1.6  # steps between neighbouring rays: most, and cost of one
_MOVES = np.array(sorted(range(-_JUMP, _JUMP + 1), key=abs))  # the shortest first
_COSTS = np.float32(_JUMP_COST) * np.abs(_MOVES).astype(np.float32)
_EDGE = 20.0  # gain of ending where the colour turns from the person's to the surroundings'
_OUTWARD = -0.15  # in doubt a little further out
_CHUNK = 256  # people at once; bounds the memory


@dataclass(frozen=True)
class Outlines:
    """``lengths`` ``(N, RAYS)`` px from the point to the outline, rays clockwise from the right (y points down).

    ``explained`` ``(N,)``: share in [0, 1] of the circle's colour variance that the two regions explain.
    """

    lengths: Floats
    explained: Floats


def fit_outlines(colours: Floats, crowd: Crowd, people: NDArray[np.intp]) -> Outlines:
    """``colours`` ``(H, W, C)``, in which a distance of 2 is noise -> one outline for each of ``people`` (indices)."""
    parts = [_fit_chunk(colours, crowd, people[start : start + _CHUNK]) for start in range(0, len(people), _CHUNK)]
    return Outlines(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _fit_chunk(colours: Floats, crowd: Crowd, people: NDArray[np.intp]) -> tuple[Floats, Floats]:
    rings = crowd.radii[people, None] ** np.linspace(0, 1, STEPS)  # (n, STEPS), 1 px to the rim
    samples, weights = _sample(colours, crowd, people, rings)
    core = np.median(samples[:, :, :_CORE].reshape(len(rings), -1, samples.shape[-1]), axis=1)
    best, reach = np.full(len(rings), -1.0, np.float32), np.zeros((len(rings), RAYS), np.intp)
    for share in _STARTS:
        outline, between = _fit_from(int(share * STEPS), samples, weights, core)
        better = between > best
        best[better], reach[better] = between[better], outline[better]
    lengths = np.take_along_axis(rings.astype(np.float32), reach, axis=1)
    return lengths, best / _variance(samples, weights)


def _sample(colours: Floats, crowd: Crowd, people: NDArray[np.intp], rings: NDArray) -> tuple[Floats, Floats]:
    """Samples ``(n, RAYS, STEPS, C)`` and their weights; a ray ends at the image's rim and at another's territory."""
    points = crowd.points[people]
    angles = np.arange(RAYS) * (2 * np.pi / RAYS)
    x = points[:, 0, None, None] + rings[:, None] * np.cos(angles)[:, None]
    y = points[:, 1, None, None] + rings[:, None] * np.sin(angles)[:, None]
    height, width = crowd.size
    at = [y.ravel(), x.ravel()]
    channels = [ndimage.map_coordinates(each, at, order=1, mode="nearest") for each in np.moveaxis(colours, -1, 0)]
    samples = np.stack(channels, axis=-1).reshape(*x.shape, -1)
    rows = np.clip(np.floor(y + 0.5).astype(np.intp), 0, height - 1)
    columns = np.clip(np.floor(x + 0.5).astype(np.intp), 0, width - 1)
    own = crowd.nearest[rows, columns] == people[:, None, None] + 1
    own &= (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    own[:, :, :3] = True
    own = np.logical_and.accumulate(own, axis=2)
    return samples, (own * (rings / rings[:, -1:])[:, None] ** _FAR_WEIGHT).astype(np.float32)


def _fit_from(step: int, samples: Floats, weights: Floats, core: Floats) -> tuple[NDArray[np.intp], Floats]:
    """From a circle -> outline ``(n, RAYS)`` as steps, and the variance between its two regions ``(n,)``."""
    outline = np.full(samples.shape[:2], step)
    last = np.maximum((weights > 0).sum(axis=2, keepdims=True) - 1, 0)
    for _ in range(_ROUNDS):
        inner, outer, _ = _means(outline, samples, weights)
        inner = 0.75 * inner + 0.25 * core
        # (|x - inner|^2 - |x - outer|^2) / |inner - outer|^2, from -1 (as the person) to 1 (as the surroundings)
        scale = np.maximum(((inner - outer) ** 2).sum(axis=-1), 4.0)
        slope, offset = -2 * (inner - outer) / scale[:, None], ((inner**2).sum(-1) - (outer**2).sum(-1)) / scale
        unlike = np.einsum("ntjc,nc->ntj", samples, slope) + offset[:, None, None]
        cost = np.cumsum((unlike + _OUTWARD).clip(-1, 1) * weights, axis=2) - _EDGE * _rise(unlike, weights, last)
        cost = np.where(weights > 0, cost, np.take_along_axis(cost, last, axis=2))
        moved = _cheapest_closed(cost)
        if np.array_equal(moved, outline):
            break
        outline = moved
    return outline, _means(outline, samples, weights)[2]


def _rise(unlike: Floats, weights: Floats, last: NDArray[np.intp]) -> Floats:
    """How much more like the surroundings it is just outside each step than just inside, in [0, 2]."""
    unlike = unlike.clip(-1, 1)
    unlike = np.where(weights > 0, unlike, np.take_along_axis(unlike, last, axis=2))
    steps = np.arange(unlike.shape[2])
    outside, inside = np.minimum(steps + 2, steps[-1]), np.maximum(steps - 1, 0)
    return np.maximum(unlike[:, :, outside] - unlike[:, :, inside], 0)


def _means(outline: NDArray[np.intp], samples: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean colours inside and outside ``(n, C)``, and the variance between the two regions ``(n,)``."""
    inside = weights * (np.arange(samples.shape[2]) <= outline[:, :, None])
    mass_in, mass = inside.sum(axis=(1, 2)), weights.sum(axis=(1, 2))
    mass_out = mass - mass_in
    sum_in = np.einsum("ntj,ntjc->nc", inside, samples)
    sum_out = np.einsum("ntj,ntjc->nc", weights, samples) - sum_in
    inner, outer = sum_in / np.maximum(mass_in, 1e-3)[:, None], sum_out / np.maximum(mass_out, 1e-3)[:, None]
    between = mass_in * mass_out / mass**2 * ((inner - outer) ** 2).sum(axis=-1)
    return inner, outer, between


def _variance(samples: Floats, weights: Floats) -> Floats:
    """Total colour variance ``(n,)``, plus that of noise."""
    mass = weights.sum(axis=(1, 2))[:, None]
    mean = np.einsum("ntj,ntjc->nc", weights, samples) / mass
    return np.einsum("ntj,ntjc->n", weights, (samples - mean[:, None, None]) ** 2) / mass[:, 0] + 2.0


def _cheapest_closed(cost: Floats) -> NDArray[np.intp]:
    """``cost`` ``(n, RAYS, STEPS)`` of ending at a step -> the cheapest smooth outline ``(n, RAYS)``.

    The rays are walked twice around, half a turn before and after those that count, so that the outline closes.
    """
    half = RAYS // 2
    order = np.r_[half:RAYS, 0:RAYS, 0:half]
    totals = [np.ascontiguousarray(cost[:, order[0]])]
    for ray in order[1:]:
        totals.append(_cheapest_way(totals[-1]) + cost[:, ray])
    at = totals[-1].argmin(axis=1)
    path = [at]
    for total in reversed(totals[:-1]):
        at = _step_before(total, at)
        path.append(at)
    return np.stack(path[::-1], axis=1)[:, half : half + RAYS]


def _cheapest_way(total: Floats) -> Floats:
    """For every step the cost of the cheapest way there from the ray before, ``total`` ``(n, STEPS)``."""
    best = total.copy()
    for jump in range(1, _JUMP + 1):
        dearer = total + np.float32(_JUMP_COST * jump)
        np.minimum(best[:, jump:], dearer[:, :-jump], out=best[:, jump:])
        np.minimum(best[:, :-jump], dearer[:, jump:], out=best[:, :-jump])
    return best


def _step_before(total: Floats, at: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where on the ray before the cheapest way to each ``at`` ``(n,)`` comes from; the nearest of equals."""
    places = at[:, None] + _MOVES
    known = np.take_along_axis(total, places.clip(0, total.shape[1] - 1), axis=1)
    ways = np.where((places >= 0) & (places < total.shape[1]), known + _COSTS, np.inf)
    return places[np.arange(len(at)), ways.argmin(axis=1)]


def relative_distance(lengths: Floats, right: NDArray, below: NDArray) -> Floats:
    """Offsets ``(1, w)`` and ``(h, 1)`` from a point -> ``(h, w)`` distance as a share of the outline's, 1 on it."""
    turn = np.arctan2(below, right) * (RAYS / (2 * np.pi)) % RAYS
    ray = turn.astype(np.intp) % RAYS
    share = turn - np.floor(turn)
    outline = lengths[ray] * (1 - share) + lengths[(ray + 1) % RAYS] * share
    return (np.hypot(right, below) / np.maximum(outline, 0.5)).astype(np.float32)
