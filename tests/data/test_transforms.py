"""Crops move image, points and labels together."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdseg.data.transforms import FILL, cut_out, random_crop, strong_augment


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0)),
)
def test_every_point_keeps_its_pixel(seed: int, size: tuple[int, int], scales: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(1, size[0] * size[1] + 1, dtype=np.int32).reshape(size)
    y, x = np.indices(size)
    image = np.stack([y, x, np.zeros_like(y)], -1).astype(np.uint8)
    points = np.stack([rng.integers(0, size[1], 20), rng.integers(0, size[0], 20)], 1).astype(float)
    crop = random_crop(rng, image, points, labels, side=64, scale=(min(scales), max(scales)))
    assert crop.image.shape == (64, 64, 3) and crop.labels is not None and crop.labels.shape == (64, 64)
    for point in crop.points:
        column, row = np.round(point).astype(int)
        label = crop.labels[row, column] - 1
        found = np.array([label % size[1], label // size[1]])
        nearest = np.abs(points - found).max(1).min()
        assert nearest <= 2, "the label under a point is that of a pixel next to where the point was"


def test_small_images_are_filled_with_the_mean_colour() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    crop = random_crop(np.random.default_rng(0), image, np.zeros((0, 2)), None, side=64, scale=(1, 1))
    assert (crop.image == FILL).all(-1).sum() == 64 * 64 - 20 * 30
    assert crop.labels is None and crop.points.shape == (0, 2)


def test_strong_augmentation_changes_colours_and_keeps_the_shape() -> None:
    image = torch.randint(0, 255, (3, 48, 48), dtype=torch.uint8)
    changed = [strong_augment(np.random.default_rng(seed), image) for seed in range(20)]
    assert all(each.shape == image.shape and each.dtype == torch.uint8 for each in changed)
    assert sum(not torch.equal(each, image) for each in changed) >= 15
    again = strong_augment(np.random.default_rng(7), image)
    assert torch.equal(again, changed[7])


def test_the_cut_out_is_one_rectangle_of_an_eighth_to_a_quarter_per_side() -> None:
    image = torch.full((3, 64, 96), 7, dtype=torch.uint8)
    for seed in range(50):
        blanked, keep = cut_out(np.random.default_rng(seed), image)
        rows, columns = (~keep).any(1).sum().item(), (~keep).any(0).sum().item()
        assert 8 <= rows <= 16 and 12 <= columns <= 24 and (~keep).sum() == rows * columns
        assert (blanked[:, keep] == 7).all()
        assert (blanked[0][~keep] == FILL[0]).all()
