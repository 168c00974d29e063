from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crowdseg.data import head_point, inner_point
from crowdseg.data.base import clean_points
from crowdseg.errors import DataError

FILE = Path("IMG_1.mat")


def test_near_misses_are_moved_in_and_far_ones_dropped():
    points = np.array([[-1, 5], [60, 40], [59.4, 0], [-1.01, 5], [30, 41.5], [7, 7]])
    cleaned, kept, notes = clean_points(points, (40, 60), FILE)
    assert cleaned.tolist() == [[0, 5], [59, 39], [59, 0], [7, 7]]
    assert kept.tolist() == [0, 1, 2, 5]
    assert notes == ["2 points outside the image, dropped"]


def test_duplicates_are_kept_and_reported():
    cleaned, _, notes = clean_points(np.array([[3, 4], [3, 4], [5, 6]]), (40, 60), FILE)
    assert len(cleaned) == 3 and notes == ["1 point exactly on another one, kept"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coordinates_that_are_no_numbers_name_the_file(bad):
    with pytest.raises(DataError, match=r"IMG_1\.mat"):
        clean_points(np.array([[1, 2], [bad, 3]]), (40, 60), FILE)


@pytest.mark.parametrize("empty", [np.zeros((0, 2)), np.zeros((0, 0)), np.array([])])
def test_nobody_is_fine(empty):
    cleaned, kept, notes = clean_points(empty, (40, 60), FILE)
    assert cleaned.shape == (0, 2) and len(kept) == 0 and notes == []


def test_one_column_is_refused():
    with pytest.raises(DataError, match=r"IMG_1\.mat"):
        clean_points(np.zeros((4, 1)), (40, 60), FILE)


@given(arrays(float, st.tuples(st.integers(0, 30), st.just(2)), elements=st.floats(-100, 200)))
def test_every_kept_point_is_inside_and_moved_by_at_most_a_pixel(points):
    cleaned, kept, _ = clean_points(points, (40, 60), FILE)
    assert (cleaned >= 0).all() and (cleaned <= [59, 39]).all()
    assert len(kept) == 0 or np.abs(cleaned - points[kept]).max() <= 1
    dropped = np.delete(points, kept, axis=0)
    assert ((dropped < -1) | (dropped > [60, 40])).any(axis=1).all()


masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any)


@given(masks)
def test_head_and_inner_point_lie_on_the_mask(mask):
    for x, y in (head_point(mask), inner_point(mask)):
        assert mask[round(y), round(x)]


def test_head_of_a_standing_figure():
    mask = np.zeros((120, 60), bool)
    mask[10:24, 26:35] = True  # head
    mask[24:110, 15:46] = True
    assert head_point(mask) == (30, 17)


def test_inner_point_is_furthest_from_the_rim():
    mask = np.zeros((50, 50), bool)
    mask[10:31, 20:41] = True
    mask[20, 2:20] = True  # a thin tail
    assert inner_point(mask) == (30, 20)


@pytest.mark.parametrize("point_of", [head_point, inner_point])
def test_empty_masks_have_no_point(point_of):
    with pytest.raises(ValueError, match="empty"):
        point_of(np.zeros((4, 4), bool))
