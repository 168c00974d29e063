import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from crowdseg import rle
from crowdseg.metrics.overlaps import ignored_share
from crowdseg.metrics.runs import Runs, shared_pixels

sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
stacks = sizes.flatmap(lambda size: arrays.arrays(bool, st.tuples(st.integers(0, 4), *map(st.just, size))))


def runs_of(stack: np.ndarray) -> Runs:
    return Runs.of([rle.from_mask(mask) for mask in stack])


def drawn(runs: Runs, size: tuple[int, int]) -> np.ndarray:
    """``(N, H, W)`` bool."""
    stack = np.zeros((runs.number, size[0] * size[1]), bool)
    for mask, start, stop in zip(runs.mask, runs.start, runs.stop, strict=True):
        assert stop > start and not stack[mask, start:stop].any()
        stack[mask, start:stop] = True
    return stack.reshape(runs.number, size[1], size[0]).swapaxes(1, 2)


@given(stacks)
def test_masks_come_back(stack):
    runs = runs_of(stack)
    assert runs.number == len(stack) and np.array_equal(drawn(runs, stack.shape[1:]), stack)
    assert runs.areas.tolist() == stack.sum((1, 2)).tolist()


@given(arrays.arrays(np.int32, sizes, elements=st.integers(0, 4)))
def test_label_maps_and_their_masks_have_the_same_runs(labels):
    runs, same = Runs.of(labels, 6), Runs.of(rle.from_label_map(labels, 6))
    for name in ("mask", "start", "stop"):
        assert np.array_equal(getattr(runs, name), getattr(same, name))
    assert runs.number == same.number == 6 and runs.size == same.size == labels.shape


def test_long_runs_and_steps_back_are_decoded():
    """Lengths of several characters, and differences below zero."""
    counts = [70_000, 5, 40_000, 33, 1, 900_000, 12, 1]
    mask = coco_mask.frPyObjects({"size": [1000, 2000], "counts": counts}, 1000, 2000)
    runs, ends = Runs.of([mask, mask]), np.cumsum(counts)
    assert runs.mask.tolist() == [0] * 4 + [1] * 4
    assert runs.start[4:].tolist() == ends[::2].tolist() and runs.stop[4:].tolist() == ends[1::2].tolist()
    text = Runs.of([mask | {"counts": mask["counts"].decode()}])  # as in a JSON file
    assert text.start.tolist() == ends[::2].tolist()


@given(st.data(), sizes)
def test_shared_pixels_are_those_of_dense_masks(data, size):
    stack = st.integers(0, 4).flatmap(lambda number: arrays.arrays(bool, (number, *size)))
    first, second = data.draw(stack), data.draw(stack)
    dense = (first[:, None] & second[None]).sum((2, 3))
    i, j, pixels = shared_pixels(runs_of(first), runs_of(second))
    assert np.array_equal(np.stack([i, j], 1), np.argwhere(dense)) and pixels.tolist() == dense[dense > 0].tolist()
    share = ignored_share(runs_of(first), runs_of(second))
    expected = (dense / np.maximum(first.sum((1, 2)), 1)[:, None]).max(1, initial=0)
    assert share == pytest.approx(expected)


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\), \(2, 3\)"):
        Runs.of([rle.from_mask(np.ones((2, 2), bool)), rle.from_mask(np.ones((2, 3), bool))])


@given(stacks)
def test_the_union_is_one_mask_of_all_pixels(stack):
    union = runs_of(stack).union
    assert union.number == 1 and np.array_equal(drawn(union, stack.shape[1:]), stack.any(0, keepdims=True))
    assert (union.start[1:] > union.stop[:-1]).all()


def test_labels_beyond_the_number_of_people_are_refused():
    labels = np.array([[0, 1, 3]], np.int32)
    assert Runs.of(labels, 3).areas.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="labels up to 2, got 3"):
        Runs.of(labels, 2)
