"""Predictions, and what they are turned into."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from crowdseg import rle
from crowdseg.errors import SetupError
from crowdseg.structures import Prediction

SIZE = (30, 40)


@pytest.fixture
def labels() -> np.ndarray:
    """Three people; the last owns no pixel."""
    labels = np.zeros(SIZE, np.int32)
    labels[2:10, 3:9], labels[20:30, 30:40] = 1, 2
    labels[4, 4] = 0
    return labels


def people_of(**masks) -> Prediction:
    points = np.array([[5.0, 5.0], [35.0, 25.0], [12.5, 8.0]])
    return Prediction(SIZE, points, np.array([0.9, 0.4, 0.7], np.float32), **masks)


def test_a_label_map_is_painted_of_exclusive_masks_alone(labels) -> None:
    masks = rle.from_label_map(labels, 3)
    exclusive = people_of(rles=masks, exclusive=True)
    np.testing.assert_array_equal(exclusive.labels, labels)
    assert exclusive.labels is exclusive.labels and exclusive.masks() is masks
    assert people_of(rles=masks).labels is None


@pytest.mark.parametrize("form", ["labels", "rles", "painted"])
def test_those_above_a_score_keep_their_masks(labels, form) -> None:
    masks = {"labels": labels} if form == "labels" else {"rles": rle.from_label_map(labels, 3), "exclusive": True}
    whole = people_of(**masks)
    if form == "painted":
        assert whole.labels is not None
    some = whole.above(0.5)
    assert some.points.tolist() == [[5.0, 5.0], [12.5, 8.0]] and some.masks() == [whole.masks()[i] for i in (0, 2)]
    np.testing.assert_array_equal(some.labels, np.where(labels == 1, 1, 0))
    assert whole.above(0.1) is whole


def test_masks_of_a_label_map_are_made_once_until_it_changes(labels) -> None:
    people = people_of(labels=labels)
    assert people.masks() is people.masks()
    people.labels = np.where(labels == 1, 1, 0).astype(np.int32)
    assert rle.area(people.masks()).tolist() == [47, 0, 0]


def test_numpy(labels) -> None:
    arrays = people_of(labels=labels).to_numpy()
    assert arrays["boxes"].tolist() == [[3, 2, 9, 10], [30, 20, 40, 30], [12.5, 8, 12.5, 8]]
    np.testing.assert_array_equal(arrays["labels"], labels)
    assert set(people_of().to_numpy()) == {"points", "scores", "boxes"}


def test_coco_results_are_read_by_pycocotools(labels) -> None:
    records = people_of(labels=labels).to_coco(image_id=5, category_id=1)
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": 5, "height": 30, "width": 40}],
        "categories": [{"id": 1, "name": "person"}],
    }
    coco.createIndex()
    results = coco.loadRes([dict(record) for record in records])  # it writes into them
    drawn = [results.annToMask(each) for each in results.loadAnns(results.getAnnIds(5))]
    np.testing.assert_array_equal(drawn, [labels == 1, labels == 2, labels == 3])
    assert [record["area"] for record in records] == [47, 100, 0] and records[2]["point"] == [12.5, 8.0]
    assert set(people_of().to_coco()[0]) == {"image_id", "category_id", "score", "point"}


def test_supervision_holds_the_same_people(labels) -> None:
    pytest.importorskip("supervision", minversion="0.31")
    found = people_of(labels=labels).to_supervision()
    assert len(found) == 3 and found.confidence.tolist() == [pytest.approx(s) for s in (0.9, 0.4, 0.7)]
    np.testing.assert_array_equal(np.asarray(found.mask), [labels == 1, labels == 2, labels == 3])
    assert found.xyxy[0].tolist() == [3, 2, 9, 10] and found.data["point"][2].tolist() == [12.5, 8.0]
    sure = found[found.confidence > 0.5]
    assert len(sure) == 2 and sure.mask.area.tolist() == [47, 0]
    assert people_of().to_supervision().mask is None
    assert len(people_of(labels=labels).above(2).to_supervision()) == 0


def test_without_supervision_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(SetupError, match=r"pip install 'crowdseg\[supervision\]'"):
        people_of().to_supervision()
    assert "supervision = [" in (Path(__file__).parent.parent / "pyproject.toml").read_text()
