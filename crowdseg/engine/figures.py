"""The figures of an evaluation as sums over its images, from which intervals and comparisons follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from crowdseg.engine.scoring import ImageScores
from crowdseg.metrics import ImageInstances, Matches
from crowdseg.metrics.resampling import Statistic

Share = tuple[float, float]  # what an image adds to the part and the whole of a figure
LOWER_IS_BETTER = ("mae", "rmse", "nae", "game_1", "game_2", "game_3")
NEITHER_IS_BETTER = ("bias",)
MASK_FIGURES = ("mean_iou_c", "f1_at_iou_0.5", "boundary_f", "pq", "sq", "rq")


def statistics(images: Sequence[ImageScores]) -> dict[str, Statistic]:
    """Every figure but AP, which is no sum over images, by its name in tables and files.

    A figure that no image has (masks, positions) is left out.
    """
    found = _counts(images) | _positions(images) | _masks(images)
    return {name: statistic for name, statistic in found.items() if statistic is not None}


def f1_name(distance: str) -> str:
    """The name of a localisation figure: "4 px" -> "f1_within_4_px"."""
    return f"f1_within_{distance.replace(' ', '_')}"


def _counts(images: Sequence[ImageScores]) -> dict[str, Statistic | None]:
    return {
        "mae": _sums(images, lambda image: (abs(image.error), 1)),
        "rmse": _sums(images, lambda image: (image.error**2, 1), root=True),
        "nae": _sums(images, lambda image: (abs(image.error) / image.true, 1) if image.true else (0, 0)),
        "bias": _sums(images, lambda image: (image.error, 1)),
    } | {f"game_{level}": _sums(images, _game(level)) for level in (1, 2, 3)}


def _game(level: int) -> Callable[[ImageScores], Share | None]:
    return lambda image: (image.game[level], 1) if image.game else None


def _positions(images: Sequence[ImageScores]) -> dict[str, Statistic | None]:
    distances = dict.fromkeys(name for image in images for name in image.localization)
    return {f1_name(name): _sums(images, _f1_within(name)) for name in distances}


def _f1_within(distance: str) -> Callable[[ImageScores], Share | None]:
    return lambda image: _f1(image.localization[distance]) if distance in image.localization else None


def _masks(images: Sequence[ImageScores]) -> dict[str, Statistic | None]:
    figures: dict[str, Callable[[ImageInstances], Share]] = {
        "mean_iou_c": lambda masks: (masks.mean_iou_c.iou_sum, masks.mean_iou_c.instances),
        "f1_at_iou_0.5": lambda masks: _f1(masks.matches),
        "boundary_f": lambda masks: (masks.boundary_sum, masks.mean_iou_c.instances),
        "pq": lambda masks: (2 * masks.panoptic.iou_sum, _f1(masks.panoptic.matches)[1]),
        "sq": lambda masks: (masks.panoptic.iou_sum, masks.panoptic.matches.matched),
        "rq": lambda masks: _f1(masks.panoptic.matches),
    }
    return {name: _sums(images, _of_masks(figure)) for name, figure in figures.items()}


def _of_masks(figure: Callable[[ImageInstances], Share]) -> Callable[[ImageScores], Share | None]:
    return lambda image: None if image.masks is None else figure(image.masks)


def _f1(matches: Matches) -> Share:
    return 2 * matches.matched, matches.predictions + matches.targets


def _sums(
    images: Sequence[ImageScores], share: Callable[[ImageScores], Share | None], root: bool = False
) -> Statistic | None:
    """The statistic to which each image adds its share; None where none has any."""
    shares = [share(image) for image in images]
    if all(each is None for each in shares):
        return None
    parts, wholes = np.array([each or (0, 0) for each in shares], float).T
    return Statistic(parts, wholes, root)
