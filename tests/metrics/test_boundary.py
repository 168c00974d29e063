import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crowdseg import rle
from crowdseg.metrics import Instances
from crowdseg.metrics.boundary import Outline, boundary_f
from crowdseg.metrics.runs import Runs

sizes = st.tuples(st.integers(1, 8), st.integers(1, 8))


def outline_of(stack: np.ndarray) -> Outline:
    return Outline.of(Runs.of([rle.from_mask(mask) for mask in stack]))


def dense_outline(mask: np.ndarray) -> np.ndarray:
    """``(P, 2)`` (x, y): pixels with a four-neighbour outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere((mask & ~inner).T)


def dense_f(first: np.ndarray, second: np.ndarray, tolerance: float) -> float:
    a, b = dense_outline(first), dense_outline(second)
    near = np.linalg.norm(a[:, None] - b[None], axis=-1) <= tolerance
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def square(left: int, top: int, side: int = 10, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


@given(sizes.flatmap(lambda size: arrays.arrays(bool, st.tuples(st.integers(1, 4), *map(st.just, size)))))
def test_outlines_are_those_of_dense_masks(stack):
    outline = outline_of(stack)
    for mask, first, size in zip(stack, outline.first, outline.size, strict=True):
        points = outline.points[first : first + size]
        assert {tuple(p) for p in points.tolist()} == {tuple(p) for p in dense_outline(mask).tolist()}
        assert len(points) == len(dense_outline(mask))


@given(st.data(), sizes, st.sampled_from([0, 1, 1.5, 2, 3]))
def test_f_is_that_of_all_distances(data, size, tolerance):
    stack = arrays.arrays(bool, (3, *size))
    first, second = data.draw(stack), data.draw(stack)
    first[:, 0, 0] = second[:, -1, -1] = True  # paired masks own pixels
    pairs = np.array([0, 2, 1]), np.array([1, 2, 1])
    found = boundary_f(outline_of(first), outline_of(second), pairs, tolerance)
    assert found == pytest.approx([dense_f(first[i], second[j], tolerance) for i, j in zip(*pairs, strict=True)])


@pytest.mark.parametrize(("shift", "agree"), [(0, 36), (2, 36), (3, 22), (30, 0)])
def test_a_square_that_is_moved(shift, agree):
    """Ten pixels wide, 36 of outline. Moved by 3 px: of the upper and the lower edge 7 pixels lie on the other's and 2
    within reach, of one side 4 pixels are within reach of these edges, and of the other side none."""
    zero = np.zeros(1, int)
    found = boundary_f(outline_of([square(5, 5)]), outline_of([square(5 + shift, 5)]), (zero, zero), 2.0)
    assert found[0] == pytest.approx(agree / 36)


def test_pooled_over_true_instances_a_missed_one_counts_0():
    target, prediction = np.zeros((40, 60), np.int32), np.zeros((40, 60), np.int32)
    target[square(5, 5)], target[square(30, 20)] = 1, 2
    prediction[square(6, 5)] = 1
    instances = Instances()
    assert instances.update(prediction, target).boundary_sum == 1
    instances.update(target, target)
    result = instances.compute()
    assert result.boundary_f == 3 / 4 and result.boundary_tolerance == 2
    exact = Instances(boundary_tolerance=0)
    exact.update(prediction, target)
    # Of 36 pixels the upper and lower edges share nine each; the sides none.
    assert exact.compute().boundary_f == pytest.approx(18 / 36 / 2)
