"""Prepared masks out to other tools and back, read by pycocotools as well."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from crowdseg import rle
from crowdseg.data import load_dataset
from crowdseg.errors import DataError, UsageError, WriteError
from crowdseg.masks import MaskStore, export_masks, import_masks, prep_masks, review_masks


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def masks(blob_set) -> Path:
    return prep_masks(blob_set, "masks").folder


def state(folder: Path, data: Path) -> dict[str, tuple]:
    """Label map and records of every image."""
    store = MaskStore.open(folder)
    return {each.key: (store.labels(each).tolist(), store.records(each)) for each in load_dataset(data).samples}


def edit(file: Path, change) -> Path:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return file


def test_a_coco_file_is_what_pycocotools_reads(masks, blob_set):
    told = []
    result = export_masks(masks, "out.json", progress=lambda done, total: told.append((done, total)))
    assert (result.images, result.people, result.failures) == (4, 16, []) and told[-1] == (4, 4)
    coco, store = COCO("out.json"), MaskStore.open(masks)
    samples = {each.image.relative_to(blob_set).as_posix(): each for each in load_dataset(blob_set).samples}
    assert len(coco.getAnnIds()) == 16 and coco.loadCats(1)[0]["name"] == "person"
    for image in coco.loadImgs(coco.getImgIds()):
        sample = samples.pop(image["file_name"])
        assert (image["height"], image["width"]) == sample.size
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        for annotation, record in zip(annotations, store.records(sample), strict=True):
            mask = coco.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(mask, store.labels(sample) == record.index + 1)
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert annotation["area"] == mask.sum() == record.area
            assert annotation["point"] == pytest.approx(list(record.point))
            assert (annotation["source"], annotation["score"]) == (record.source, record.score)
            assert annotation["leakage"] == record.leakage
    assert not samples


def test_an_exported_file_beside_the_images_is_a_dataset_with_masks(masks, blob_set):
    export_masks(masks, blob_set / "annotations" / "instances_train.json")
    (blob_set / "points.csv").rename("points.csv")
    dataset = load_dataset(blob_set)
    assert dataset.format == "COCO" and dataset.broken == []
    assert [len(each.masks) for each in dataset.samples] == [4] * 4


def test_people_without_a_pixel_are_left_out(blob_set, tmp_path):
    text = (blob_set / "points.csv").read_text().splitlines()
    (blob_set / "points.csv").write_text("\n".join([*text, text[1]]) + "\n")  # a point on another one
    folder = prep_masks(blob_set, "masks").folder
    assert export_masks(folder, "out.json").people == 16
    before = state(folder, blob_set)
    result = import_masks("out.json", blob_set, folder)
    assert (result.people, result.changed, result.bare) == (17, 0, 0) and state(folder, blob_set) == before


@pytest.mark.parametrize("form", ["out.json", "arrays"])
def test_out_and_back_changes_nothing(masks, blob_set, form):
    export_masks(masks, form)
    before = state(masks, blob_set)
    result = import_masks(form, blob_set, masks)
    assert (result.images, result.people, result.changed, result.bare, result.defects) == (4, 16, 0, 0, [])
    assert state(masks, blob_set) == before
    again = import_masks(form, blob_set, "new")
    assert (again.images, again.people, again.changed, again.bare) == (4, 16, 16, 0)
    for key, (labels, records) in state("new", blob_set).items():
        assert labels == before[key][0]
        assert form == "arrays" or records == before[key][1]  # COCO tells of source, score and leakage
        assert form != "arrays" or {record.source for record in records} == {"imported"}
    last = json.loads(Path("runs/last.json").read_text())
    assert last == {"data": str(blob_set), "masks": str(Path("new").resolve())}


def test_a_corrected_mask_is_taken_over_and_stays(masks, blob_set):
    export_masks(masks, "out.json")
    sample = load_dataset(blob_set).samples[0]
    x, y = np.floor(sample.points[2] + 0.5).astype(int)
    drawn = np.zeros(sample.size, bool)
    drawn[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = True

    def correct(document):
        """As CVAT does: masks alone come back, here one of them as an outline."""
        for each in document["annotations"]:
            for key in ("point", "source", "score", "leakage"):
                del each[key]
        x0, y0, x1, y1 = (float(value) for value in rle.boxes([rle.from_mask(drawn)])[0])
        document["annotations"][2]["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        document["annotations"].reverse()

    before = state(masks, blob_set)
    result = import_masks(edit(Path("out.json"), correct), blob_set, masks)
    assert (result.images, result.people, result.changed, result.bare, result.defects) == (4, 16, 1, 0, [])
    store = MaskStore.open(masks)
    np.testing.assert_array_equal(store.labels(sample) == 3, drawn)
    records = store.records(sample)
    assert records[2].source == "imported" and records[2].score is None and records[2].area == drawn.sum()
    assert [records[index] for index in (0, 1, 3)] == [before[sample.key][1][index] for index in (0, 1, 3)]
    for options in ({}, {"workers": 2}):  # prep-masks leaves what was imported, whatever its settings
        assert prep_masks(blob_set, masks, **options).kept == 4
    np.testing.assert_array_equal(store.labels(sample) == 3, drawn)
    (blob_set / "points.csv").write_text((blob_set / "points.csv").read_text() + "images/0.png,1,1\n")
    assert prep_masks(blob_set, masks).redone == 1


def test_images_that_the_source_lacks_stay_as_they_are(masks, blob_set):
    def keep_one(document):
        document["images"] = document["images"][1:2]
        document["annotations"] = [each for each in document["annotations"] if each["image_id"] == 2]

    export_masks(masks, "out.json")
    before = state(masks, blob_set)
    assert import_masks(edit(Path("out.json"), keep_one), blob_set, masks).images == 1
    assert state(masks, blob_set) == before


def test_images_without_a_usable_mask_stay_as_they_are(masks, blob_set):
    export_masks(masks, "out.json")

    def change(document):
        first, second = (image["id"] for image in document["images"][:2])
        kept = [each for each in document["annotations"] if each["image_id"] != first]
        document["annotations"] = [
            {**each, "segmentation": []} if each["image_id"] == second else each for each in kept
        ]

    before = state(masks, blob_set)
    result = import_masks(edit(Path("out.json"), change), blob_set, masks)
    assert (result.images, result.empty, result.changed, result.bare) == (2, 2, 0, 0)
    assert state(masks, blob_set) == before
    Path("maps").mkdir()
    np.save("maps/0.npy", np.zeros((60, 80), np.int32))
    assert import_masks("maps", blob_set, masks).empty == 1 and state(masks, blob_set) == before


def test_masks_on_no_point_and_points_in_no_mask(masks, blob_set):
    def spoil(document):
        first = document["annotations"]
        first[0]["point"] = first[1]["point"]  # the second of the two goes by the point that lies in it: none is free
        first[3]["segmentation"] = {"size": [1, 1], "counts": "1"}
        first[4]["segmentation"] = "nonsense"

    export_masks(masks, "out.json")
    result = import_masks(edit(Path("out.json"), spoil), blob_set, "new")
    assert (result.images, result.people, result.bare) == (4, 16, 3)
    assert len(result.defects) == 3
    assert "annotation 4 of images/0 has no usable mask" in result.defects[0]
    assert "annotation 2 of images/0 lies on no point" in result.defects[1]
    assert "annotation 5 of images/1 has no usable mask" in result.defects[2]
    store = MaskStore.open("new")
    sample = load_dataset(blob_set).samples[0]
    assert [record.area for record in store.records(sample)][3] == 1  # the pixel of the point


def test_what_a_file_tells_of_a_mask_is_taken_if_it_makes_sense(masks, blob_set):
    def tell(document):
        document["annotations"][0] |= {"source": "sam", "score": 0.75, "leakage": 0.25}
        document["annotations"][1] |= {"source": "sam", "score": "good", "leakage": None, "point": "here"}
        document["annotations"][2] |= {"source": 3, "score": 0.5}

    export_masks(masks, "out.json")
    import_masks(edit(Path("out.json"), tell), blob_set, "new")
    told = MaskStore.open("new").records(load_dataset(blob_set).samples[0])
    assert [(record.source, record.score) for record in told[:3]] == [("sam", 0.75), ("sam", None), ("imported", None)]
    assert told[0].leakage == 0.25 and 0 <= told[1].leakage < 0.1


def test_masks_without_points_are_shared_out_so_that_most_get_one(tmp_path, blob_set):
    """Two masks over both points and over one of them: each gets a point, in whatever order they come."""
    dataset = load_dataset(blob_set)
    sample = dataset.samples[0]
    (ax, ay), (bx, by) = np.floor(sample.points[:2] + 0.5).astype(int)
    small, large = np.zeros(sample.size, bool), np.zeros(sample.size, bool)
    small[ay - 1 : ay + 2, ax - 1 : ax + 2] = True
    large[[ay, by], [ax, bx]] = True
    large[: by - 1] = True
    large[ay, ax] = large[by, bx] = True
    for order in ([small, large], [large, small]):
        annotations = [
            {"id": n, "image_id": 7, "category_id": 1, "segmentation": rle.to_json(rle.from_mask(mask))}
            for n, mask in enumerate(order)
        ]
        images = [{"id": 7, "file_name": "0.png", "height": sample.size[0], "width": sample.size[1]}]
        Path("own.json").write_text(json.dumps({"images": images, "annotations": annotations}))
        result = import_masks("own.json", blob_set, "new")
        assert "lies on no point" not in " ".join(result.defects)
        assert MaskStore.open("new").labels(sample)[ay, ax] == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda labels: labels[:-1], "(height, width) = (59, 80)"),
        (lambda labels: labels + 1, "labels outside 0 to 4"),
        (lambda labels: np.where(labels, 5 - labels, 0), "label n + 1 must be"),
    ],
)
def test_label_maps_that_do_not_fit_are_named(masks, blob_set, change, sentence):
    export_masks(masks, "arrays")
    file = Path("arrays/1.npy")
    assert np.load(file).dtype == np.int32
    np.save(file, change(np.load(file)))
    np.save("arrays/other.npy", np.load("arrays/0.npy"))
    Path("arrays/2.npy").write_bytes(b"")
    before = state(masks, blob_set)
    result = import_masks("arrays", blob_set, masks)
    assert result.images == 2 and len(result.defects) == 3 and state(masks, blob_set) == before
    assert "other is not among" in result.defects[0]
    assert str(file) in result.defects[1] and sentence in result.defects[1]
    assert "2.npy is not a readable label map" in result.defects[2]


def test_outdated_masks_are_not_exported(masks, blob_set):
    (blob_set / "points.csv").write_text((blob_set / "points.csv").read_text() + "images/0.png,1,1\n")
    result = export_masks(masks, "out.json")
    assert result.images == 3 and len(result.failures) == 1 and "images/0.json is of other points" in result.failures[0]


def test_damaged_files_are_named_and_the_rest_is_exported(masks):
    edit(masks / "records/images/0.json", lambda document: document.update(people=3))
    (masks / "records/images/1.json").write_text("[]")
    label_map = masks / "labels/images/2.png"
    label_map.write_bytes(label_map.read_bytes()[:-9])
    result = export_masks(masks, "out.json")
    assert (result.images, result.people) == (1, 4)
    assert all(f"images/{number}.json does not hold records" in result.failures[number] for number in (0, 1))
    assert "images/2.png is not a readable label map" in result.failures[2] and len(COCO("out.json").getAnnIds()) == 4


@pytest.fixture
def own(masks, blob_set) -> MaskStore:
    """The same masks as another tool may leave them: no records, and a label of nobody."""
    store = MaskStore.create("own", {"settings": {"by": "hand"}, "dataset": {"root": "data"}})
    for sample in load_dataset(blob_set).samples:
        labels = MaskStore.open(masks).labels(sample)
        labels[0, 0] = 9
        store.write(sample, labels, [])
    return store


def test_masks_of_ones_own_without_records_can_be_handed_on(own, masks, blob_set):
    assert export_masks("own", "out.json").people == 16
    made = {tuple(record.point): record for sample in load_dataset(blob_set).samples
            for record in MaskStore.open(masks).records(sample)}  # fmt: skip
    for annotation in json.loads(Path("out.json").read_text())["annotations"]:
        assert annotation["area"] == made[tuple(annotation["point"])].area
        assert (annotation["source"], annotation["score"], annotation["leakage"]) == ("imported", None, 0)


def test_masks_of_ones_own_without_records_can_be_reviewed(own):
    review = review_masks("own")
    assert (review.people, review.sources, review.failures) == (16, {"imported": 16}, [])


def test_masks_of_ones_own_without_records_can_be_corrected(own, masks, blob_set):
    export_masks(masks, "out.json")
    result = import_masks("out.json", blob_set, "own")
    assert (result.images, result.people, result.changed, result.defects) == (4, 16, 0, [])
    assert [len(own.records(sample)) for sample in load_dataset(blob_set).samples] == [4, 4, 4, 4]


def test_an_import_that_cannot_be_written_stops(masks, blob_set):
    export_masks(masks, "out.json")
    record = masks / "records/images/1.json"
    record.unlink()
    (record / "in the way").mkdir(parents=True)
    with pytest.raises(WriteError, match=r"Cannot delete masks/records/images/1\.json"):
        import_masks("out.json", blob_set, masks)


def test_names_of_several_images_need_a_split(blob_set):
    (blob_set / "test").mkdir()
    (blob_set / "images" / "3.png").rename(blob_set / "test" / "0.png")
    table = blob_set / "points.csv"
    table.write_text(table.read_text().replace("images/3.png", "test/0.png"))
    folder = prep_masks(blob_set, "masks").folder
    with pytest.raises(UsageError, match=r"1 names are of several images \(0\): choose a --split"):
        export_masks(folder, "arrays")
    assert not Path("arrays").exists()
    assert export_masks(folder, "arrays", split="train").images == 3
    assert sorted(path.name for path in Path("arrays").iterdir()) == ["0.npy", "1.npy", "2.npy"]


def test_requests_that_cannot_be_met(masks, blob_set, crowd):
    with pytest.raises(UsageError, match="no split 'val', only train"):
        export_masks(masks, "out.json", split="val")
    with pytest.raises(UsageError, match="holds no prepared masks"):
        export_masks(blob_set, "out.json")
    with pytest.raises(UsageError, match=r"absent\.json is not there"):
        import_masks("absent.json", blob_set)
    export_masks(masks, "out.json")
    with pytest.raises(UsageError, match="masks of another dataset"):
        export_masks(crowd.masks, "crowd.json") and import_masks("crowd.json", crowd.data, masks)
    with pytest.raises(DataError, match="masks of none of the annotated images") as caught:
        import_masks("out.json", crowd.data)
    assert "images/0.png is not among" in str(caught.value)
    Path("broken.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"broken\.json is not readable JSON"):
        import_masks("broken.json", blob_set)
    assert not Path("runs/masks").exists()
