"""What masks are measured with: the rivals work, and IoU is each instance's own."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import bench_masks, rivals
from benchmarks.bench_masks import Scene
from crowdseg import rle


@pytest.fixture
def scene() -> Scene:
    """Twelve bright discs on dark ground."""
    rows, columns = np.mgrid[:130, :160]
    points = np.array([(35 + 30 * i, 35 + 30 * j) for j in range(3) for i in range(4)], float)
    masks = [(columns - x) ** 2 + (rows - y) ** 2 <= 81 for x, y in points]
    image = np.where(np.any(masks, axis=0)[..., None], [200, 120, 90], [40, 60, 80]).astype(np.uint8)
    return Scene(image, points, [rle.from_mask(mask) for mask in masks])


@pytest.mark.parametrize(
    ("route", "least"),
    [
        (bench_masks.crowdseg_masks, 0.9),
        (rivals.colour_split, 0.9),
        (rivals.seeded_watershed, 0.8),
        (rivals.walker, 0.8),
        (rivals.superpixel, 0.15),
        (rivals.circles, 0.12),
        (rivals.half_circles, 0.06),
    ],
)
def test_routes_find_discs(scene: Scene, route: rivals.Route, least: float) -> None:
    assert bench_masks._ious(route, [scene]).min() > least


def test_iou_leaves_ignored_regions_out(scene: Scene) -> None:
    def twice_as_wide(image: np.ndarray, points: np.ndarray) -> np.ndarray:
        labels = np.zeros(image.shape[:2], np.int32)
        labels[:, :10], labels[:, 10:20] = 1, 2
        return labels

    half = np.zeros((130, 160), bool)
    half[:, :5] = True
    other = np.zeros((130, 160), bool)
    other[:, 15:25] = True
    found = Scene(scene.image, scene.points, [rle.from_mask(half), rle.from_mask(other)])
    np.testing.assert_allclose(bench_masks._ious(twice_as_wide, [found]), [1 / 2, 1 / 3])
    ignored = np.zeros((130, 160), bool)
    ignored[:, 3:12] = True  # what it covers of a marked person still counts
    found.ignore = [rle.from_mask(ignored)]
    np.testing.assert_allclose(bench_masks._ious(twice_as_wide, [found]), [1, 5 / 13])
