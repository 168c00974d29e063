"""Preparing a whole data set: restart, changes, failures, places that are refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry

from crowdseg.data import load_dataset
from crowdseg.errors import SetupError, UsageError
from crowdseg.masks import MaskStore, prep_masks


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted((folder / "labels").rglob("*.png"))}


def test_masks_of_a_dataset(blob_set):
    told = []
    result = prep_masks(blob_set, preview=2, progress=lambda done, total: told.append((done, total)))
    assert result.folder == Path("runs/masks/data")
    assert (result.images, result.done, result.kept, result.redone, result.people) == (4, 4, 0, 0, 16)
    assert result.sources == {"superpixel": 16} and result.median_area > 50 and result.failures == []
    assert told == [(n, 4) for n in range(5)]
    assert [path.name for path in result.previews] == ["sheet-1.jpg"] and result.previews[0].is_file()
    store = MaskStore.open(result.folder)
    for sample in load_dataset(blob_set).samples:
        labels, records = store.labels(sample), store.records(sample)
        assert labels.shape == sample.size and labels.max() == 4
        assert [record.area for record in records] == np.bincount(labels.ravel())[1:].tolist()
        np.testing.assert_allclose([record.point for record in records], sample.points)
    assert store.manifest["segmenter"] == "superpixel" and store.manifest["settings"]["min_radius"] == 3
    assert store.dataset_root == blob_set
    last = json.loads(Path("runs/last.json").read_text())
    assert last == {"data": str(blob_set), "masks": str(result.folder.resolve())}


def test_finished_images_are_kept(blob_set):
    folder = prep_masks(blob_set).folder
    before = stamps(folder)
    (folder / "records" / "images" / "2.json").unlink()  # as if it had been stopped there
    (folder / "records" / "images" / "3.json").write_text("{")
    result = prep_masks(blob_set)
    assert (result.done, result.kept) == (2, 2)
    after = stamps(folder)
    assert {name for name in after if after[name] != before[name]} == {"2.png", "3.png"}


def test_changed_points_are_done_again(blob_set):
    folder = prep_masks(blob_set).folder
    before = stamps(folder)
    text = (blob_set / "points.csv").read_text()
    (blob_set / "points.csv").write_text(text + "images/1.png,1,1\n")
    result = prep_masks(blob_set)
    assert (result.done, result.kept, result.redone) == (1, 3, 1)
    assert {name for name, stamp in stamps(folder).items() if stamp != before[name]} == {"1.png"}


def test_changed_settings_are_done_again(blob_set, tmp_path, monkeypatch, tiny_sam):
    monkeypatch.setitem(sam_model_registry, "vit_b", tiny_sam)
    torch.save(tiny_sam().state_dict(), tmp_path / "sam.pth")
    prep_masks(blob_set)
    result = prep_masks(blob_set, sam_checkpoint=tmp_path / "sam.pth")  # auto
    assert (result.segmenter, result.done, result.redone) == ("sam", 4, 4)
    assert prep_masks(blob_set, segmenter="sam", sam_checkpoint=tmp_path / "sam.pth").kept == 4
    torch.save({**tiny_sam(seed=1).state_dict()}, tmp_path / "other.pth")
    assert prep_masks(blob_set, sam_checkpoint=tmp_path / "other.pth").redone == 4
    manifest = MaskStore.open("runs/masks/data").manifest
    assert manifest["segmenter"] == "sam" and "other.pth" in manifest["settings"]["sam_checkpoint"]


def test_processes_make_the_same_masks(blob_set):
    one, two = prep_masks(blob_set, "one"), prep_masks(blob_set, "two", workers=2)
    assert two.done == 4
    for name in stamps(one.folder):
        file = Path("labels") / "images" / name
        assert (one.folder / file).read_bytes() == (two.folder / file).read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_one_broken_image_does_not_stop_the_rest(blob_set, workers):
    image = blob_set / "images" / "1.png"
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    result = prep_masks(blob_set, workers=workers)
    assert (result.done, result.people) == (3, 12)
    assert [path for path, _ in result.failures] == [image] and str(image) in result.failures[0][1]
    image.write_bytes(content)
    result = prep_masks(blob_set)
    assert (result.done, result.kept, result.failures) == (1, 3, [])


def test_only_one_split(blob_set):
    with pytest.raises(UsageError, match="no split 'test', only train"):
        prep_masks(blob_set, split="test")
    assert prep_masks(blob_set, split="train").images == 4


def test_nothing_is_written_into_the_data(blob_set):
    before = sorted(blob_set.rglob("*"))
    with pytest.raises(UsageError, match="inside the dataset's own folder"):
        prep_masks(blob_set, blob_set / "images" / "masks")
    prep_masks(blob_set)
    assert sorted(blob_set.rglob("*")) == before


def test_another_datasets_masks_are_not_overwritten(blob_set, tmp_path):
    prep_masks(blob_set, "masks")
    other = shutil.copytree(blob_set, tmp_path / "other")
    assert prep_masks(other, "masks").kept == 4  # the same data elsewhere
    (other / "points.csv").write_text("image,x,y\nimages/0.png,3,3\n")
    with pytest.raises(UsageError, match="holds masks of another dataset"):
        prep_masks(blob_set, "masks") and prep_masks(shutil.move(other, tmp_path / "third"), "masks")


def test_images_without_annotation_are_left_out(blob_set):
    dataset = load_dataset(blob_set)
    dataset.samples[0].points = None
    assert prep_masks(dataset).images == 3
    for sample in dataset.samples:
        sample.points = None
    with pytest.raises(UsageError, match="no annotated images"):
        prep_masks(dataset)


def test_an_image_of_nobody(blob_set):
    dataset = load_dataset(blob_set)
    dataset.samples[0].points = np.zeros((0, 2))
    result = prep_masks(dataset)
    assert (result.done, result.people) == (4, 12)
    assert not MaskStore.open(result.folder).labels(dataset.samples[0]).any()


def test_contradictory_requests_are_refused_before_anything_is_written(blob_set, tmp_path):
    with pytest.raises(UsageError, match="choose auto, superpixel or sam"):
        prep_masks(blob_set, segmenter="magic")
    with pytest.raises(UsageError, match="no use to the superpixel"):
        prep_masks(blob_set, segmenter="superpixel", sam_checkpoint="weights.pth")
    with pytest.raises(UsageError, match="no use to the superpixel"):
        prep_masks(blob_set, segmenter="superpixel", sam_model="vit_b")
    with pytest.raises(SetupError, match=r"absent\.pth is not there"):
        prep_masks(blob_set, sam_checkpoint="absent.pth")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(blob_set, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    from crowdseg.errors import DataError

    with pytest.raises(DataError, match="closed"):
        prep_masks(blob_set, tmp_path / "closed" / "masks")
