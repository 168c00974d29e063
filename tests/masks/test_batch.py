"""Preparing a whole data set: restart, changes, failures, places that are refused."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything import sam_model_registry

from crowdseg.data import load_dataset
from crowdseg.errors import SetupError, UsageError, WriteError
from crowdseg.masks import MaskStore, memory, prep_masks
from crowdseg.masks.workers import _of_use


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


def test_damaged_files_are_named_and_their_images_done_anew(blob_set):
    store = MaskStore.open(prep_masks(blob_set).folder)
    samples = load_dataset(blob_set).samples
    before = [store.labels(sample) for sample in samples]
    store.record_file(samples[0]).write_text("[]")
    label_map = store.label_file(samples[2])
    label_map.write_bytes(label_map.read_bytes()[:-20])
    result = prep_masks(blob_set)
    assert (result.done, result.kept, result.redone, result.failures) == (2, 2, 2, [])
    assert result.damaged == [
        f"{store.record_file(samples[0])} does not hold records of masks; prep-masks makes them anew.",
        f"{label_map} is not a readable label map (it is cut off).",
    ]
    for labels, sample in zip(before, samples, strict=True):
        np.testing.assert_array_equal(store.labels(sample), labels)
        assert len(store.records(sample)) == 4


def test_a_rerun_counts_those_who_are_kept_and_loads_no_segmenter(blob_set, monkeypatch):
    first = prep_masks(blob_set)
    monkeypatch.setitem(sys.modules, "crowdseg.masks.workers", None)  # importing it would fail
    told = []
    again = prep_masks(blob_set, progress=lambda *position: told.append(position))
    assert (again.done, again.kept, again.people, again.sources) == (0, 4, first.people, first.sources)
    assert (again.median_area, again.mean_leakage) == (first.median_area, first.mean_leakage)
    assert told == [(n, 4) for n in range(5)]


def test_contact_sheets_are_told_of_and_lack_what_cannot_be_drawn(blob_set):
    prep_masks(blob_set)
    image = blob_set / "images" / "1.png"
    image.write_bytes(image.read_bytes()[:-200])
    told = []
    result = prep_masks(blob_set, preview=4, drawing=lambda *position: told.append(position))
    assert told == [(n, 4) for n in range(1, 5)]
    assert (result.kept, [path for path, _ in result.failures], len(result.previews)) == (4, [image], 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_masks_that_cannot_be_kept_stop_the_run(blob_set, workers):
    """A folder takes the place of one image's label map."""
    data = load_dataset(blob_set)
    blocked = MaskStore(Path("masks"), {}).label_file(data.samples[1])
    (blocked / "in the way").mkdir(parents=True)
    finished = []
    message = r"Cannot write masks/labels/images/1\.png: .*\. The images that were finished are kept\."
    with pytest.raises(WriteError, match=message):
        prep_masks(blob_set, "masks", workers=workers, progress=lambda number, of: finished.append(number))
    assert finished[-1] == 1 if workers == 1 else finished[-1] < 4
    shutil.rmtree(blocked)
    result = prep_masks(blob_set, "masks")
    assert result.kept >= 1 and result.done + result.kept == 4 and not list(Path("masks").rglob(".*"))


def test_images_beyond_a_workers_share_of_memory_are_done_one_at_a_time(blob_set, monkeypatch):
    """Memory for three of the images at once; for the second one, which is twice as large, only once."""
    Image.open(blob_set / "images" / "1.png").resize((120, 80)).save(blob_set / "images" / "1.png")
    at_once = []

    def in_processes(samples, store, worker, workers):
        for sample in samples:
            at_once.append(sample.image.name)
            yield sample, worker.prepare(sample, store)

    for module in ("memory", "workers"):
        monkeypatch.setattr(f"crowdseg.masks.{module}.free_memory", lambda: 3 * 60 * 80 * memory.BYTES_PER_PIXEL)
    monkeypatch.setattr("crowdseg.masks.workers._in_processes", in_processes)
    result = prep_masks(blob_set, workers=2)
    assert at_once == ["0.png", "2.png", "3.png"] and (result.done, result.failures) == (4, [])


@pytest.mark.parametrize(
    ("images", "segmenter", "number"),
    [(1, "superpixel", 1), (8, "superpixel", 1), (9, "superpixel", 2), (999, "superpixel", 6), (999, "sam", 1)],
)
def test_as_many_processes_as_are_worth_their_start(monkeypatch, images, segmenter, number):
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert _of_use(images, segmenter) == number


def test_an_image_beyond_all_memory_is_refused(blob_set, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 60 * 80 * memory.BYTES_PER_PIXEL - 1)
    result = prep_masks(blob_set)
    assert len(result.failures) == 4 and "0.png has 80 x 60 pixels: its masks take about" in result.failures[0][1]


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
    with pytest.raises(WriteError, match="closed"):
        prep_masks(blob_set, tmp_path / "closed" / "masks")
