"""What the folder of prepared masks takes for finished, and what it says of files that are damaged."""

import json
from pathlib import Path

import numpy as np
import pytest

from crowdseg import files
from crowdseg.data import load_dataset
from crowdseg.errors import DataError, WriteError
from crowdseg.masks import MaskStore, Record
from crowdseg.structures import Sample


@pytest.fixture
def store(blob_set, tmp_path) -> MaskStore:
    """The first image finished: four people in a row, the last without a pixel."""
    store = MaskStore.create(tmp_path / "masks", {"settings": {"a": 1}, "dataset": {"root": str(blob_set)}})
    labels = np.zeros((60, 80), np.int32)
    labels[10:20, :30] = np.repeat([1, 2, 3], 10)
    areas = [100, 100, 100, 0]
    people = [Record(i, (5.0 + 10 * i, 15.0), "sam", None if i else 0.9, 0.25, areas[i], 5.0) for i in range(4)]
    store.write(first(store), labels, people)
    return store


def first(store: MaskStore) -> Sample:
    return load_dataset(store.dataset_root).samples[0]


def test_what_was_written_comes_back(store):
    sample = first(store)
    assert store.is_current(sample) and np.bincount(store.labels(sample).ravel()).tolist() == [4500, 100, 100, 100]
    records = store.records(sample)
    assert records == store.current_records(sample) and [record.index for record in records] == [0, 1, 2, 3]
    assert records[0] == Record(0, (5.0, 15.0), "sam", 0.9, 0.25, 100, 5.0) and records[1].score is None
    store.write(sample, store.labels(sample), [])
    assert store.records(sample) == store.current_records(sample) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", "null", "{}", '{"settings": "a", "people": []}', '"settings, points, people"'],
)
def test_a_record_file_of_another_shape(store, content):
    sample = first(store)
    store.record_file(sample).write_text(content)
    assert store.has(sample) and not store.is_current(sample)
    for read in (store.records, store.current_records):
        with pytest.raises(
            DataError, match=r"images/0\.json does not hold records of masks; prep-masks makes them anew"
        ):
            read(sample)


PERSON = {"index": 0, "point": [5, 5], "source": "sam", "score": 0.5, "leakage": 0, "area": 9, "radius": 3}
WRONG = [
    {"index": 1}, {"index": "0"}, {"index": True}, {"point": 5.0}, {"point": [5.0]}, {"point": ["x", 5]},
    {"point": [5.0, -1]}, {"point": [80, 5]}, {"point": [float("nan"), 5]}, {"point": [[1, 2], [3, 4]]},
    {"source": None}, {"source": ["sam"]}, {"score": "high"}, {"leakage": None}, {"leakage": float("nan")},
    {"area": 9.5}, {"area": 10**400}, {"radius": float("inf")}, {"radius": []},
]  # fmt: skip


@pytest.mark.parametrize(
    "people",
    [None, {}, 3, "people", {"0": {}}, [3], [[]], [{}], [{"index": 0}], *([{**PERSON, **wrong}] for wrong in WRONG)],
)
def test_people_of_another_shape(store, people):
    sample = first(store)
    content = files.read_json(store.record_file(sample))
    store.record_file(sample).write_text(json.dumps({**content, "people": people}))
    with pytest.raises(DataError, match="does not hold records of masks"):
        store.records(sample)
    assert not store.is_current(sample)
    store.record_file(sample).write_text(json.dumps({**content, "people": [PERSON]}))
    assert store.is_current(sample)


def test_keys_that_are_not_ours_are_overlooked(store):
    sample = first(store)
    content = files.read_json(store.record_file(sample))
    for person in content["people"]:
        person["checked_by"] = "hand"
    before = store.records(sample)
    files.write_json(store.record_file(sample), {**content, "date": "today"})
    assert store.current_records(sample) == before


def test_a_label_map_that_is_cut_off(store):
    sample = first(store)
    content = store.label_file(sample).read_bytes()
    for length in (0, 20, len(content) - 30, len(content) - 1):
        store.label_file(sample).write_bytes(content[:length])
        assert store.has(sample) and not store.is_current(sample)
        with pytest.raises(DataError, match=r"images/0\.png is not a readable label map"):
            store.current_records(sample)
    store.label_file(sample).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"images/0\.png is not a readable label map .* Delete it and run prep-masks"):
        store.labels(sample)


def test_a_label_map_of_another_size(store):
    sample = first(store)
    files.write_label_map(store.label_file(sample), np.ones((50, 90), np.int32))
    assert not store.is_current(sample)
    for read in (store.labels, store.current_records):
        with pytest.raises(DataError, match=r"images/0\.png is 90 x 50 pixels, but .*0\.png is 80 x 60; prep-masks"):
            read(sample)


@pytest.mark.parametrize("content", ["[]", "{}", '{"dataset": "crowd", "settings": {}}', '{"dataset": {"root": "a"}}'])
def test_a_manifest_of_another_shape(store, content):
    (store.folder / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"masks/manifest\.json does not say of what the masks are"):
        MaskStore.open(store.folder)


def test_nothing_is_left_of_an_image_that_cannot_be_written(store, monkeypatch):
    sample = first(store)

    def full(path: Path, content: object, **options: object) -> None:
        raise WriteError(f"Cannot write {path}: full.")

    monkeypatch.setattr(files, "write_json", full)
    with pytest.raises(WriteError):
        store.write(sample, store.labels(sample), store.records(sample))
    assert not store.has(sample) and not store.label_file(sample).exists()
