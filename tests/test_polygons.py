import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import points_in_poly

from crowdseg.polygons import polygons


def filled(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which pixels have their centres in the ring."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    return points_in_poly(centres, ring).reshape(size)


def area(ring: np.ndarray) -> float:
    x, y = ring.T
    return 0.5 * float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


def test_a_square():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    ((outline,),) = polygons(mask)
    assert outline.tolist() == [[2, 1], [5, 1], [5, 3], [2, 3], [2, 1]]


def test_a_hole_and_what_lies_in_it():
    mask = np.ones((7, 7), bool)
    mask[1:6, 1:6] = False
    mask[3, 3] = True
    outer, inner = polygons(mask)
    assert [area(ring) for ring in outer] == [49, -25] and [area(ring) for ring in inner] == [1]


@pytest.mark.parametrize("mask", [np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)])
def test_pixels_that_meet_in_a_corner_are_two_polygons(mask):
    assert [[area(ring) for ring in part] for part in polygons(mask)] == [[1], [1]]


def test_nobody():
    assert polygons(np.zeros((0, 0), bool)) == [] and polygons(np.zeros((3, 3), bool)) == []


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_filled_again_the_mask_comes_back(mask):
    found = polygons(mask)
    parts, number = ndimage.label(mask)
    assert len(found) == number
    for index, (outline, *holes) in enumerate(found):
        part = filled(outline, mask.shape)
        for hole in holes:
            part &= ~filled(hole, mask.shape)
            assert area(hole) < 0
        assert np.array_equal(part, parts == index + 1) and area(outline) > 0
        for ring in (outline, *holes):
            steps = np.diff(ring, axis=0)
            assert ((steps != 0).sum(axis=1) == 1).all() and (ring[0] == ring[-1]).all()
    assert sum(area(ring) for part in found for ring in part) == mask.sum()
