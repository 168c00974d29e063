"""Scoring crowds against crowds: masks as label maps and as RLE, and points, also with everything in one tangle.

Small crowds are first scored by dense matrices of all pairs too, which must give the same figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.common import Options, Report, cpu_seconds, plain
from crowdseg import rle
from crowdseg.metrics import Instances, Localization
from crowdseg.metrics.localization import AVERAGE
from crowdseg.structures import LabelMap, Points

CELL = 12  # pixels that a person's side takes
DENSE, MANY, SECONDS = 400, 10_000, 5.0  # people that dense matrices are for; people, and the time to keep to


@dataclass(frozen=True)
class Crowds:
    """A crowd, found displaced: each person by up to ``shift`` pixels, or all by the same (``tangled``)."""

    layout: str
    count: int
    target: LabelMap
    prediction: LabelMap
    points: Points
    found: Points


def run(options: Options) -> Report:
    styles = {"layout": "", "what": "", "people": ",d", "cpu s": ".2f", "to reach": ".0f", "dense": ""}
    report = Report("Scoring", [plain(*column) for column in styles.items()], lambda row: row["layout"])
    for layout in ("scattered", "tangled"):
        small = {what: _agrees(what, crowds(layout, DENSE)) for what in WAYS}
        for count in (1000,) if options.quick else (1000, MANY):
            scene = crowds(layout, count)
            for what, way in WAYS.items():
                _, seconds = cpu_seconds(lambda way=way, scene=scene: way(scene))
                goal = SECONDS if count == MANY else None
                row: dict[str, Any] = {"layout": layout, "what": what, "people": count, "cpu s": seconds}
                report.add(**row, **{"to reach": goal, "dense": small[what]})
    return report


def crowds(layout: str, count: int) -> Crowds:
    """Squares of 7 to 12 px, one in each cell of a grid."""
    random = np.random.default_rng(0)
    side = int(np.ceil(count**0.5))
    cells = np.argwhere(np.ones((side, side)))[:count] * CELL + CELL  # a margin to be displaced into
    size = (side + 2) * CELL, (side + 2) * CELL
    if layout == "tangled":  # every mask meets four others, and points have dozens of candidates
        wide, shift = np.full(count, CELL), np.tile([5, 4], (count, 1))
        points = random.uniform(0, side * CELL, (count, 2))
        found = random.normal(size[0] / 2, size[0] / 6, (count, 2))
    else:
        wide, shift = random.integers(7, CELL + 1, count), random.integers(-3, 4, (count, 2))
        points = cells[:, ::-1] + wide[:, None] / 2
        found = points + random.normal(0, 3, points.shape)
    return Crowds(layout, count, _squares(cells, wide, size), _squares(cells + shift, wide, size), points, found)


def _squares(corners: NDArray[np.int64], wide: NDArray[np.int64], size: tuple[int, int]) -> LabelMap:
    labels = np.zeros(size, np.int32)
    for index, ((y, x), side) in enumerate(zip(corners, wide, strict=True), 1):
        labels[y : y + side, x : x + side] = index
    return labels


Figures = list[float]


def _masks(prediction: Any, target: Any) -> Figures:
    image = Instances().update(prediction, target)
    return [image.mean_iou_c.iou_sum, image.matches.matched, image.panoptic.iou_sum]


def _label_maps(scene: Crowds) -> Figures:
    return _masks(scene.prediction, scene.target)


def _rles(scene: Crowds) -> Figures:
    return _masks(*(rle.from_label_map(labels, scene.count) for labels in (scene.prediction, scene.target)))


def _points(scene: Crowds) -> Figures:
    matches = Localization().update(scene.found, scene.points)
    return [matches["8 px"].matched, matches[AVERAGE].matched]


WAYS: dict[str, Callable[[Crowds], Figures]] = {
    "masks, label maps": _label_maps,
    "masks, RLE": _rles,
    "points": _points,
}


def _agrees(what: str, scene: Crowds) -> str:
    """Whether dense matrices give the same figures."""
    expected = _dense_points(scene) if what == "points" else _dense_masks(scene)
    return "agrees" if np.allclose(WAYS[what](scene), expected, rtol=1e-9) else "DIFFERS"


def _dense_masks(scene: Crowds) -> Figures:
    iou = np.zeros((scene.count, scene.count))
    areas = [np.bincount(labels.ravel(), minlength=scene.count + 1) for labels in (scene.prediction, scene.target)]
    for index in range(scene.count):
        shared = np.bincount(scene.target[scene.prediction == index + 1], minlength=scene.count + 1)[1:]
        iou[index] = shared / (areas[0][index + 1] + areas[1][1:] - shared)
    close = np.where(iou > 0.5, iou, 0)
    return [
        iou[linear_sum_assignment(iou, maximize=True)].sum(),
        (iou >= 0.5)[linear_sum_assignment(iou >= 0.5, maximize=True)].sum(),
        close[linear_sum_assignment(close, maximize=True)].sum(),
    ]


def _dense_points(scene: Crowds) -> Figures:
    distance = np.linalg.norm(scene.found[:, None] - scene.points[None], axis=-1)
    sizes = [(distance <= r)[linear_sum_assignment(distance <= r, maximize=True)].sum() for r in range(1, 101)]
    return [sizes[7], float(np.mean(sizes))]
