"""Masks as run lengths and as label maps."""

import numpy as np
import pytest

from crowdseg import rle

SIZE = (40, 60)


def rectangles(number: int) -> list[np.ndarray]:
    """Masks that overlap and reach the rim; the first is empty."""
    generator = np.random.default_rng(number)
    masks = [np.zeros(SIZE, bool) for _ in range(number)]
    for mask in masks[1:]:
        y, x = generator.integers(0, SIZE[0]), generator.integers(0, SIZE[1])
        mask[y : y + generator.integers(1, 12), x : x + generator.integers(1, 12)] = True
    return masks


@pytest.mark.parametrize("number", [0, 1, 30, 300])  # pycocotools fails on lists of more than 255 in places
def test_of_overlapping_masks_the_smaller_is_on_top(number):
    masks = rectangles(number)
    expected = np.zeros(SIZE, np.int32)
    for index in sorted(range(number), key=lambda i: (-masks[i].sum(), -i)):
        expected[masks[index]] = index + 1
    labels = rle.to_label_map([rle.from_mask(mask) for mask in masks], SIZE)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("columns", [1, 7, 59, 60, 100])
def test_strips_are_cut_from_the_label_map(columns):
    masks = [rle.from_mask(mask) for mask in [*rectangles(30), np.ones(SIZE, bool)]]
    whole = np.pad(rle.to_label_map(masks, SIZE), ((0, 0), (1, 1)))
    strips = list(rle.label_strips(masks, SIZE, columns))
    assert [left for left, _ in strips] == list(range(0, SIZE[1], columns))
    for left, strip in strips:
        np.testing.assert_array_equal(strip, whole[:, left : left + columns + 2])


@pytest.mark.parametrize("number", [1, 300])
def test_a_label_map_comes_back(number):
    labels = rle.to_label_map([rle.from_mask(mask) for mask in rectangles(number)], SIZE)
    masks = rle.from_label_map(labels, number)
    assert rle.area(masks).tolist() == np.bincount(labels.ravel(), minlength=number + 1)[1:].tolist()
    np.testing.assert_array_equal(rle.to_label_map(masks, SIZE), labels)


@pytest.mark.parametrize("size", [(40, 60), (1, 1), (1, 9), (9, 1), (300, 7)])
@pytest.mark.parametrize("strip", [1, 1000, 1 << 24])
def test_masks_of_a_label_map_are_those_that_pycocotools_writes(monkeypatch, size, strip):
    monkeypatch.setattr(rle, "STRIP", strip)
    generator = np.random.default_rng(strip)
    maps = [np.kron(generator.integers(0, 9, size), np.ones((k, k), int))[: size[0], : size[1]] for k in (1, 4, 50)]
    for labels in [*maps, np.full(size, 3), np.zeros(size, int)]:
        masks = rle.from_label_map(labels.astype(np.int32), 7)  # of label 8 nothing is asked
        assert masks == [rle.from_mask(labels == label) for label in range(1, 8)]


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_image_without_pixels(size):
    assert rle.from_label_map(np.zeros(size, np.int32), 2) == [rle.from_mask(np.zeros(size, bool))] * 2


@pytest.mark.parametrize("number", [0, 1, 30, 300])
def test_masks_come_back_from_their_runs(number):
    masks = [rle.from_mask(mask) for mask in rectangles(number)]
    assert rle.from_runs(rle.runs(masks), number, SIZE) == masks


@pytest.mark.parametrize("number", [0, 1, 30, 300])
def test_runs_are_those_of_the_masks(number):
    generator = np.random.default_rng(number)
    masks = [*rectangles(number), *(generator.random(SIZE) < share for share in (0.02, 0.5)), np.ones(SIZE, bool)]
    owner, start, end = rle.runs([rle.from_mask(mask) for mask in masks])
    drawn = np.zeros((len(masks), SIZE[0] * SIZE[1]), bool)
    for n, a, b in zip(owner, start, end, strict=True):
        assert a < b and not drawn[n, a : b + 1].any()  # whole runs: nothing of the mask follows them at once
        drawn[n, a:b] = True
    np.testing.assert_array_equal(drawn, [mask.ravel(order="F") for mask in masks])
    assert sorted(zip(owner.tolist(), start.tolist(), strict=True)) == list(
        zip(owner.tolist(), start.tolist(), strict=True)
    )


@pytest.mark.parametrize("number", [0, 1, 30])
def test_crops_are_the_masks_within_their_boxes(number):
    masks = [*rectangles(number), np.random.default_rng(number).random(SIZE) < 0.02, np.ones(SIZE, bool)]
    codes = [rle.from_mask(mask) for mask in masks]
    for mask, box, (x0, y0, pixels) in zip(masks, rle.boxes(codes), rle.crops(codes), strict=True):
        assert [x0, y0, x0 + pixels.shape[1], y0 + pixels.shape[0]] == box.tolist()
        drawn = np.zeros(SIZE, bool)
        drawn[y0 : y0 + pixels.shape[0], x0 : x0 + pixels.shape[1]] = pixels
        np.testing.assert_array_equal(drawn, mask)


@pytest.mark.parametrize("number", [0, 1, 30, 300])
def test_whole_masks_are_not_damaged(number):
    masks = [*rectangles(number), np.random.default_rng(number).random(SIZE) < 0.5, np.ones(SIZE, bool)]
    codes = [rle.from_mask(mask) for mask in masks]
    assert not rle.damaged(codes).any() and rle.damaged([]).tolist() == []
    assert not rle.damaged([{"size": [3, 1 << 29], "counts": b"0" + rle_of(3 << 29)}]).any()
    short = [code | {"counts": code["counts"][:-1]} for code in codes]
    other = [code | {"size": [SIZE[0], SIZE[1] + 1]} for code in codes]
    assert rle.damaged([*codes, *short, *codes, *other]).tolist() == ([False] * len(codes) + [True] * len(codes)) * 2


def rle_of(value: int) -> bytes:
    """One number above 15 in COCO's letters."""
    letters = []
    while True:
        low, value = value & 31, value >> 5
        letters.append(48 + low + 32 * (value > 0 or low > 15))
        if value == 0 and low <= 15:
            return bytes(letters)


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "ooo",  # ends amid a number
        "P3O1",  # a length below zero, and one that makes up for it
        "oooooooooooo0",  # more bits than a number has
        "o" * 200 + "0",
        "P3 ",
        "P\u00e9",
        b"\xff\x00",
    ],
)
def test_damaged_counts_spoil_no_others(counts):
    whole, bad = rle.from_mask(np.ones((8, 12), bool)), {"size": [8, 12], "counts": counts}
    assert rle.damaged([whole, bad, whole, bad, bad, whole]).tolist() == [False, True, False, True, True, False]


@pytest.mark.parametrize("far", [1e9, -1e9, float("nan"), float("inf")])
def test_outlines_that_lead_to_nowhere_are_refused(far):  # pycocotools ends the process
    with pytest.raises(ValueError, match="nowhere"):
        rle.from_coco([[1, 1, 5, 1, 5, 5], [0, 0, far, 0, 0, 9]], (8, 12))


@pytest.mark.parametrize("counts", [5, None, True, {"a": 1}, [[1]], [-1, 97]])
def test_counts_that_are_neither_text_nor_numbers_are_refused(counts):
    with pytest.raises((ValueError, TypeError, OverflowError)):
        rle.from_coco({"size": [8, 12], "counts": counts}, (8, 12))


@pytest.mark.parametrize("number", [0, 1, 30])
def test_runs_cut_at_columns_are_the_same_pixels(number):
    masks = [*rectangles(number), np.random.default_rng(number).random(SIZE) < 0.5, np.ones(SIZE, bool)]
    owner, first, past = rle.cut_at_columns(rle.runs([rle.from_mask(mask) for mask in masks]), SIZE[0])
    assert (first // SIZE[0] == (past - 1) // SIZE[0]).all() and (first < past).all()
    drawn = np.zeros((len(masks), SIZE[0] * SIZE[1]), int)
    np.add.at(drawn, (np.repeat(owner, past - first), rle.spans(first, past - first)), 1)
    np.testing.assert_array_equal(drawn, [mask.ravel(order="F") for mask in masks])
