import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment

from crowdseg import rle
from crowdseg.metrics import Instances, Matches, MeanIoU, Panoptic, mean_iou_c
from crowdseg.metrics.overlaps import overlaps
from crowdseg.metrics.runs import Runs

label_maps = arrays.arrays(np.int32, (6, 7), elements=st.integers(0, 5))


def dense_iou(prediction, target):
    first = prediction[None] == np.arange(1, prediction.max(initial=0) + 1)[:, None, None]
    second = target[None] == np.arange(1, target.max(initial=0) + 1)[:, None, None]
    shared = (first[:, None] & second[None]).sum((2, 3))
    union = (first[:, None] | second[None]).sum((2, 3))
    return shared / np.maximum(union, 1)


def blobs(random, number, size=(80, 100)):
    """Label map of discs, drawn over one another."""
    y, x = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, np.int32)
    for index in range(number):
        centre, radius = random.uniform((0, 0), size), random.uniform(3, 9)
        labels[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = index + 1
    return labels


def test_golden_case(real_data):
    cases = json.loads((real_data.parent / "spec/xmask_cases.json").read_text())["mean_iou_c"]
    for case in cases:
        result = mean_iou_c(np.array(case["prediction"], np.int32), np.array(case["target"], np.int32))
        assert result.iou_sum == pytest.approx(case["iou_sum"], abs=1e-6) and result.instances == case["instances"]


@given(label_maps, label_maps)
@settings(max_examples=300)
def test_equals_hungarian_matching_on_the_dense_matrix(prediction, target):
    iou = dense_iou(prediction, target)
    expected = iou[linear_sum_assignment(iou, maximize=True)].sum()
    instances = len(np.unique(target[target > 0]))
    from_labels = mean_iou_c(prediction, target)
    assert from_labels.iou_sum == pytest.approx(expected) and from_labels.instances == instances
    as_masks = [rle.from_label_map(labels, 5) for labels in (prediction, target)]
    from_masks = mean_iou_c(*as_masks)
    assert from_masks.iou_sum == pytest.approx(expected) and from_masks.instances == instances


def test_masks_that_overlap():
    whole, left = np.ones((4, 8), bool), np.zeros((4, 8), bool)
    left[:, :4] = True
    masks = [rle.from_mask(whole), rle.from_mask(left)]
    assert mean_iou_c(masks, masks) == MeanIoU(2.0, 2)
    assert mean_iou_c(masks[:1], masks[1:]) == MeanIoU(0.5, 1)


def test_nobody_on_either_side():
    empty, person = np.zeros((5, 5), np.int32), np.ones((5, 5), np.int32)
    assert mean_iou_c(empty, empty).value is None
    assert mean_iou_c(person, empty) == MeanIoU(0.0, 0)
    assert mean_iou_c(empty, person).value == 0
    assert mean_iou_c([], []).value is None
    instances = Instances()
    instances.update(empty, empty)
    result = instances.compute()
    assert result.mean_iou_c is result.ap is result.ap50 is result.matches.f1 is None


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"\(5, 5\) and \(5, 6\)"):
        mean_iou_c(np.zeros((5, 5), np.int32), np.zeros((5, 6), np.int32))


def test_people_without_pixels():
    target = np.zeros((4, 4), np.int32)
    target[0] = 2  # person 1 owns no pixel: not an instance
    prediction = np.zeros((4, 4), np.int32)
    prediction[0] = 1  # persons 2 and 3 own no pixel: wrong all the same
    instances = Instances()
    image = instances.update(prediction, target, np.ones(3))
    assert image.mean_iou_c == MeanIoU(1.0, 1)
    assert (image.matches.matched, image.matches.predictions, image.matches.targets) == (1, 3, 1)


def test_images_are_pooled_over_instances_not_averaged():
    one, four = np.ones((2, 2), np.int32), np.arange(1, 5, dtype=np.int32).reshape(2, 2)
    instances = Instances()
    instances.update(one, one)
    instances.update(np.zeros_like(four), four)
    assert instances.compute().mean_iou_c == pytest.approx(1 / 5)
    assert instances.compute().matches.recall == pytest.approx(1 / 5)
    instances.reset()
    assert instances.compute() == Instances().compute()


def test_low_scores_count_for_ap_only():
    labels = np.repeat(np.array([[1, 2]], np.int32), 4, axis=0)
    instances = Instances(min_score=0.5)
    instances.update(labels, labels, np.array([0.9, 0.3]))
    result = instances.compute()
    assert result.mean_iou_c == 0.5 and result.matches.recall == 0.5 and result.ap == pytest.approx(1.0)


def test_predictions_in_an_ignored_region_are_not_wrong():
    target, region = np.zeros((4, 12), np.int32), np.zeros((4, 12), bool)
    target[:, :4], region[:, 4:8] = 1, True
    prediction = np.zeros((4, 12), np.int32)
    prediction[:, :4], prediction[:, 5:8], prediction[:, 9:] = 1, 2, 3
    instances = Instances()
    image = instances.update(prediction, target, np.array([0.7, 0.9, 0.8]), [rle.from_mask(region)])
    assert (image.matches.matched, image.matches.predictions) == (1, 2)
    # Only the third, scored above the right one, costs precision.
    assert instances.compute().ap50 == pytest.approx(0.5)


def coco_ap(images):
    """AP and AP50 by pycocotools of ``(prediction masks, scores, target masks, ignored regions)`` per image."""
    truth = {"images": [], "annotations": [], "categories": [{"id": 1}]}
    results = []
    for number, (masks, scores, targets, regions) in enumerate(images, 1):
        truth["images"].append({"id": number, "height": 80, "width": 100})
        for crowd, mask in [(0, m) for m in targets] + [(1, m) for m in regions]:
            record = {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": crowd}
            truth["annotations"].append({**record, "segmentation": mask, "area": int(rle.area([mask])[0])})
        for mask, score in zip(masks, scores, strict=True):
            results.append({"image_id": number, "category_id": 1, "segmentation": mask, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = truth
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    return precision.mean(), precision[0].mean()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", ["labels", "masks"])
def test_ap_equals_pycocotools_below_its_cap(seed, form):
    random = np.random.default_rng(seed)
    instances, images = Instances(), []
    for _ in range(4):
        target = blobs(random, random.integers(1, 25))
        # Predictions: the truth displaced by a pixel or three, and some that are nobody.
        shift = random.integers(-2, 3, 2)
        prediction = np.roll(target, shift, (0, 1))
        extra = blobs(random, 6)
        number = int(prediction.max()) + 6
        prediction = np.where((prediction == 0) & (extra > 0), extra + number - 6, prediction).astype(np.int32)
        masks, targets = rle.from_label_map(prediction, number), rle.from_label_map(target, int(target.max()))
        if form == "masks":
            masks = [rle.from_mask(np.roll(rle.to_mask(mask), 1, 1)) if i % 3 else mask for i, mask in enumerate(masks)]
        targets = [mask for mask in targets if rle.area([mask])[0]]
        regions = [rle.from_mask(blobs(random, 3) > 0), rle.from_mask(blobs(random, 2) > 0)]
        scores = random.permutation(number) / number
        instances.update(prediction if form == "labels" else masks, targets, scores, regions)
        images.append((masks, scores, targets, regions))
    result = instances.compute()
    assert (result.ap, result.ap50) == pytest.approx(coco_ap(images), abs=1e-9)
    assert 0 < result.ap < result.ap50


def test_ap_sees_every_detection():
    """With 400 people right and pycocotools' cap of 100, a quarter of them would be found."""
    labels = np.arange(1, 401, dtype=np.int32).reshape(20, 20).repeat(3, 0).repeat(3, 1)
    instances = Instances()
    instances.update(labels, labels, np.linspace(1, 0.1, 400))
    assert instances.compute().ap == pytest.approx(1.0)


def test_a_thousand_instances_in_one_tangle():
    side, cell = 32, 12
    target = np.arange(1, side * side + 1, dtype=np.int32).reshape(side, side).repeat(cell, 0).repeat(cell, 1)
    prediction = np.roll(target, (3, 4), (0, 1))  # every mask meets four others
    image = Instances().update(prediction, target)
    dense = overlaps(Runs.of(prediction), Runs.of(target))
    matrix = np.zeros(dense.shape)
    matrix[dense.prediction, dense.target] = dense.iou
    assert image.mean_iou_c.iou_sum == pytest.approx(matrix[linear_sum_assignment(matrix, maximize=True)].sum())


def test_pairs_are_sparse_and_sorted():
    random = np.random.default_rng(1)
    prediction, target = blobs(random, 30), blobs(random, 30)
    pairs = overlaps(Runs.of(prediction), Runs.of(target))
    dense = dense_iou(prediction, target)
    assert np.array_equal(np.argwhere(dense > 0), np.stack([pairs.prediction, pairs.target], 1))
    assert pairs.iou == pytest.approx(dense[dense > 0])


def test_panoptic_quality_of_hand_worked_masks():
    """Two pairs of IoU 8/12 and 1, one of exactly 1/2 that is none, somebody missed and somebody not there."""
    target, prediction = np.zeros((6, 20), np.int32), np.zeros((6, 20), np.int32)
    target[0, 0:10], prediction[0, 2:12] = 1, 1  # 8 of 12
    target[1, :5], prediction[1, :5] = 2, 2
    target[2, :10], prediction[2, :5] = 3, 3  # 5 of 10
    target[3, :4] = 4
    prediction[4, :3] = 4
    instances = Instances()
    image = instances.update(prediction, target)
    assert image.panoptic == Panoptic(pytest.approx(5 / 3), Matches(2, 4, 4)) and image.matches.matched == 3
    panoptic = instances.compute().panoptic
    assert panoptic.sq == pytest.approx(5 / 6) and panoptic.rq == 1 / 2 and panoptic.pq == pytest.approx(5 / 12)


def test_panoptic_quality_without_pairs_or_people():
    assert Panoptic().pq is Panoptic().sq is Panoptic().rq is None
    alone = Panoptic(0.0, Matches(0, 3, 2))
    assert alone.pq == alone.rq == 0 and alone.sq is None


def test_panoptic_quality_leaves_ignored_regions_out():
    target, prediction, region = np.zeros((4, 12), np.int32), np.zeros((4, 12), np.int32), np.zeros((4, 12), bool)
    target[:, :4], region[:, 4:8] = 1, True
    prediction[:, :4], prediction[:, 5:8] = 1, 2
    assert Instances().update(prediction, target, ignore=[rle.from_mask(region)]).panoptic.pq == 1
    assert Instances().update(prediction, target).panoptic.pq == pytest.approx(2 / 3)


@given(label_maps, label_maps)
def test_panoptic_quality_equals_its_definition(prediction, target):
    iou = dense_iou(prediction, target)
    pairs = iou[iou > 0.5]  # exclusive masks: each has one partner at most
    missed = len(np.unique(target[target > 0])) - len(pairs)
    false = prediction.max() - len(pairs)
    panoptic = Instances().update(prediction, target).panoptic
    if len(pairs) + missed + false:
        assert panoptic.pq == pytest.approx(pairs.sum() / (len(pairs) + missed / 2 + false / 2))
        assert panoptic.pq == pytest.approx((panoptic.sq or 0) * panoptic.rq)
    else:
        assert panoptic.pq is None


@given(*[st.integers(0, 4).flatmap(lambda number: arrays.arrays(bool, (number, 4, 5)))] * 2)
def test_masks_that_overlap_equal_dense_matrices(first, second):
    shared = (first[:, None] & second[None]).sum((2, 3))
    iou = shared / np.maximum((first[:, None] | second[None]).sum((2, 3)), 1)
    image = Instances().update(*([rle.from_mask(mask) for mask in stack] for stack in (first, second)))
    assert image.mean_iou_c.iou_sum == pytest.approx(iou[linear_sum_assignment(iou, maximize=True)].sum())
    close = np.where(iou > 0.5, iou, 0)
    assert image.panoptic.iou_sum == pytest.approx(close[linear_sum_assignment(close, maximize=True)].sum())
    half = iou >= 0.5
    assert image.matches.matched == half[linear_sum_assignment(half, maximize=True)].sum()


@pytest.mark.parametrize(
    ("regions", "counted"),
    [
        ([(0, 4), (3, 6)], 0),
        ([(0, 3), (5, 8)], 0),  # in neither for the greater part
        ([(0, 6)], 0),
        ([(0, 5)], 1),  # half
        ([(0, 4), (1, 5)], 1),
        ([(0, 2), (0, 2), (0, 2)], 1),
    ],
)
def test_a_mask_lies_in_all_ignored_regions_together(regions, counted):
    person, true = np.zeros((80, 100), bool), np.zeros((80, 100), bool)
    person[:4, :10] = true[20:30, 20:30] = True
    ignore = [np.zeros((80, 100), bool) for _ in regions]
    for region, (left, right) in zip(ignore, regions, strict=True):
        region[:, left:right] = True
    found, targets, ignored = ([rle.from_mask(mask) for mask in masks] for masks in ([person, true], [true], ignore))
    instances, scores = Instances(), np.array([0.9, 0.8])
    image = instances.update(found, targets, scores, ignored)
    assert image.matches.predictions == image.panoptic.matches.predictions == 1 + counted
    result = instances.compute()  # AP is COCO's, by single regions
    assert (result.ap, result.ap50) == pytest.approx(coco_ap([(found, scores, targets, ignored)]))
