import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdseg import rle
from crowdseg.data import Dataset
from crowdseg.engine.prediction_files import read_predictions
from crowdseg.errors import DataError, UsageError
from crowdseg.structures import Sample

SIZE = (8, 12)


def sample(key: str, split: str = "test", annotation: Path | None = None) -> Sample:
    return Sample(key, Path("root") / f"{key}.jpg", SIZE, np.zeros((0, 2)), split, annotation=annotation)


@pytest.fixture
def crowd() -> Dataset:
    keys = ["test/IMG_1", "test/IMG_2", "train/IMG_1", "train/IMG_3"]
    return Dataset(Path("root"), "folder", [sample(key, key.split("/")[0]) for key in keys])


def square(x: int, y: int) -> dict:
    mask = np.zeros(SIZE, bool)
    mask[y : y + 2, x : x + 2] = True
    return rle.from_mask(mask)


def read(tmp_path: Path, dataset: Dataset, content, split: str | None = "test"):
    file = tmp_path / "predictions.txt"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_predictions(file, dataset, dataset.split(split) if split else None)


@pytest.mark.parametrize("heading", ["image,count\n", "", "\ufeffName,Count\r\n"])
def test_counts(tmp_path, crowd, heading):
    found = read(tmp_path, crowd, heading + "IMG_1.jpg,12\nimg_2,3.5\n\n")
    assert {key: p.count for key, p in found.predictions.items()} == {"test/IMG_1": 12, "test/IMG_2": 3.5}
    assert not found.located and found.absent == []


@pytest.mark.parametrize("heading", ["image,x,y,score\n", ""])
def test_points_table_lists_people_not_images(tmp_path, crowd, heading):
    found = read(tmp_path, crowd, heading + "test/IMG_1,1.5,2,0.75\ntest/IMG_1,3,4,0.5\ntrain/IMG_3,,,\n")
    first = found.predictions["test/IMG_1"]
    assert first.points.tolist() == [[1.5, 2], [3, 4]] and first.scores.tolist() == [0.75, 0.5]
    assert found.absent == ["test/IMG_2"] and found.predictions["test/IMG_2"].count == 0 and found.located


@pytest.mark.parametrize("nobody", ["IMG_1.jpg,,", "IMG_1.jpg", "IMG_1.jpg,,,"])
@pytest.mark.parametrize("heading", ["", "image,x,y\n", "file_name,x,y,score\n"])
def test_the_first_image_may_have_nobody(tmp_path, crowd, heading, nobody):
    found = read(tmp_path, crowd, f"{heading}{nobody}\nIMG_2.jpg,3,4\n")
    assert [p.count for p in found.predictions.values()] == [0, 1] and found.absent == [] and found.located


def test_an_image_may_be_called_like_a_heading(tmp_path):
    dataset = Dataset(Path("root"), "folder", [sample("image")])
    assert read(tmp_path, dataset, "image,5\n").predictions["image"].count == 5
    assert read(tmp_path, dataset, "image,,\n").absent == []


def test_points_without_score(tmp_path, crowd):
    found = read(tmp_path, crowd, "image;x;y\nIMG_1.png;1;2\nIMG_2;5;6\n")
    assert found.predictions["test/IMG_2"].points.tolist() == [[5, 6]]
    assert found.predictions["test/IMG_2"].scores.tolist() == [1]


def test_nwpu_text_numbers_are_names_with_or_without_zeros(tmp_path):
    dataset = Dataset(Path("root"), "nwpu", [sample(f"images/{n:04}") for n in (3, 12, 40)])
    found = read(tmp_path, dataset, "3 2 1 2 3 4\n12 0\n0040 1 7.5 8\n")
    assert [p.points.tolist() for p in found.predictions.values()] == [[[1, 2], [3, 4]], [], [[7.5, 8]]]


def test_many_people_are_read_quickly(tmp_path, crowd):
    records = [{"image_id": "IMG_1", "bbox": [1, 2, 3, 4], "score": 0.5}] * 50_000
    start = time.perf_counter()
    assert read(tmp_path, crowd, records).predictions["test/IMG_1"].count == 50_000
    assert time.perf_counter() - start < 5


def test_numbers_are_not_guessed_to_be_ranks(tmp_path, crowd):
    with pytest.raises(DataError, match=r"names 2 images that are not in the dataset \(1, 2\)"):
        read(tmp_path, crowd, "1 1 5 5\n2 0\n")


def test_coco_results_with_masks_polygons_and_points(tmp_path, crowd):
    box = [[2, 1, 6, 1, 6, 5, 2, 5]]
    found = read(
        tmp_path,
        crowd,
        [
            {"image_id": "IMG_1", "category_id": 1, "segmentation": rle.to_json(square(4, 2)), "score": 0.5},
            {"image_id": "IMG_1.jpg", "segmentation": box, "score": 0.25, "point": [3, 2]},
        ],
    )
    first = found.predictions["test/IMG_1"]
    assert first.points.tolist() == [[4, 2], [3, 2]] and first.scores.tolist() == [0.5, 0.25]
    assert rle.area(first.masks()).tolist() == [4, 16]
    assert found.predictions["test/IMG_2"].masks() == [] and found.absent == ["test/IMG_2"]


def test_coco_results_with_boxes_have_no_masks(tmp_path, crowd):
    found = read(tmp_path, crowd, [{"image_id": "IMG_1", "bbox": [2, 3, 4, 2], "score": 1, "segmentation": []}])
    assert found.predictions["test/IMG_1"].points.tolist() == [[3.5, 3.5]]
    assert not found.predictions["test/IMG_1"].has_masks


def coco_dataset(tmp_path: Path) -> Dataset:
    """Two annotation files that both count their images from 1, as some exports do."""
    samples = []
    for split in ("train", "test"):
        file = tmp_path / f"{split}.json"
        images = [{"id": n, "file_name": f"{split}/{name}.jpg"} for n, name in enumerate("ab", 1)]
        categories = [{"id": 1, "name": "dog"}, {"id": 7, "name": "person"}]
        file.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
        samples += [sample(f"{split}/{name}", split, file) for name in "ab"]
    return Dataset(tmp_path, "COCO", samples)


@pytest.mark.parametrize("split", ["train", "test"])
def test_ids_are_those_of_the_wanted_samples_coco_file(tmp_path, split):
    records = [
        {"image_id": 2, "category_id": 7, "bbox": [0, 0, 3, 3], "score": 1},
        {"image_id": 2, "category_id": 1, "bbox": [4, 4, 3, 3], "score": 1},
    ]
    found = read(tmp_path, coco_dataset(tmp_path), records, split)
    assert {key: p.count for key, p in found.predictions.items()} == {f"{split}/a": 0, f"{split}/b": 1}


def test_points_of_masks_are_made_as_those_of_the_truth(tmp_path, crowd):
    body = np.zeros(SIZE, bool)
    body[:, 3:6] = True  # a standing person, or a long cell
    record = {"segmentation": rle.to_json(rle.from_mask(body)), "category_id": 7}
    found = read(tmp_path, coco_dataset(tmp_path), [{**record, "image_id": 1}])
    assert found.predictions["test/a"].points.tolist() == [[4, 1]]
    found = read(tmp_path, crowd, [{**record, "image_id": "IMG_1"}])
    (x, y) = found.predictions["test/IMG_1"].points[0]
    assert x == 4 and 1 <= y <= 6


def test_crowd_regions_of_a_coco_file_are_not_people(tmp_path, crowd):
    regions = [{"image_id": "IMG_1", "bbox": [0, 0, 9, 9], "iscrowd": crowd_} for crowd_ in (0, 1)]
    assert read(tmp_path, crowd, regions).predictions["test/IMG_1"].count == 1


def test_ids_of_the_files_own_images_come_first(tmp_path, crowd):
    document = {
        "images": [
            {"id": 1, "file_name": "IMG_2.jpg", "count": 1},
            {"id": 2, "file_name": "IMG_1.jpg", "count": 6.5},
            {"id": 3, "file_name": "train/IMG_3.jpg"},
        ],
        "annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 2, 2]}, {"id": 2, "image_id": 3, "bbox": [0, 0, 2, 2]}],
    }
    found = read(tmp_path, crowd, document)
    assert {key: p.count for key, p in found.predictions.items()} == {"test/IMG_1": 6.5, "test/IMG_2": 1}
    document["annotations"][0]["image_id"] = 9
    with pytest.raises(DataError, match="annotation 1, has image_id 9, which"):
        read(tmp_path, crowd, document)


def test_a_name_of_two_splits_means_the_wanted_one_or_the_one_with_its_folder(tmp_path, crowd):
    assert read(tmp_path, crowd, "IMG_1,5\nIMG_3,2\n", "train").predictions["train/IMG_1"].count == 5
    found = read(tmp_path, crowd, "train/IMG_1,5\ntest/IMG_1,7\nIMG_2,1\n")
    assert found.predictions["test/IMG_1"].count == 7
    with pytest.raises(DataError, match=r"'IMG_1' fits 2 images \(test/IMG_1, train/IMG_1\)"):
        read(tmp_path, crowd, "IMG_1,5\n", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("image,count\nIMG_1,5\n", r"lacks 1 of the 2 images to score \(test/IMG_2\)"),
        ("image,count\nIMG_1,5\nIMG_9,5\n", r"names 1 images that are not in the dataset \(IMG_9\)"),
        ("image,count\nIMG_1,5\nIMG_1.jpg,6\n", "line 3, gives IMG_1.jpg a second count"),
        ("image,count\nIMG_1,many\n", "line 2, has 'many' where a finite number"),
        ("image,count\nIMG_1,nan\n", "line 2, has 'nan' where a finite number"),
        ("image,count\nIMG_1,3,4,5,6\n", "line 2, has 5 columns"),
        ("IMG_1,many\n", "line 1, has 'many' where a finite number"),
        ("picture,count\nIMG_1,5\n", r"not in the dataset \(picture\)"),
        ("image,count\nIMG_1,-0.5\n", "line 2, has a count of '-0.5'"),
        ("image,x,y\nIMG_1,3\n", "line 2, has 2 columns"),
        ("image,count\nIMG_1\n", "line 2, has 1 columns"),
        ("IMG_1\nIMG_2\n", "line 1, is not 'image n' followed"),
        ("image,x,y,score\nIMG_1,3,4,nan\n", "line 2, has 'nan' where a finite number"),
        ("image,x,y,score\nIMG_1,3,4,-2.5\n", "line 2, has a score of '-2.5'"),
        ("IMG_1 2 3 4\n", "line 1, is not 'image n' followed"),
        ("IMG_1 x\n", "line 1, has 'x'"),
        ("{", "is not readable JSON"),
        ("{}", "neither a COCO results list"),
        ("[3]", "neither a COCO results list"),
        ('[{"bbox": [1, 2, 3, 4]}]', "annotation 1, has no image_id"),
        ('[{"image_id": "IMG_1"}]', "annotation 1, has neither a point"),
        ('[{"image_id": "IMG_1", "bbox": [1, 2, 3]}]', r"annotation 1, has \[1, 2, 3\] where 4 numbers"),
        ('[{"image_id": "IMG_1", "bbox": [1, 2, 3, 4], "point": 5}]', "annotation 1, has 5 where 2 numbers"),
        ('[{"image_id": "IMG_1", "bbox": [1, 2, 3, 4], "score": null}]', "annotation 1, has None"),
        (
            '[{"image_id": "IMG_1", "bbox": [1, 2, 3, 4], "score": 7}]',
            "annotation 1, has a score of 7 where one from 0 to 1",
        ),
        ('[{"image_id": "IMG_1", "bbox": [1, 2, 3, 4], "score": NaN}]', "annotation 1, has nan where"),
        ('{"annotations": [], "images": [{"id": "IMG_1", "count": NaN}]}', "image 1, has nan where a finite number"),
        ('{"annotations": [], "images": [{"id": "IMG_1", "count": -2.5}]}', "image 1, has a count of -2.5"),
        ('[{"image_id": "IMG_1", "segmentation": {"size": [9, 9], "counts": "i2"}}]', r"has a mask of \(9, 9\)"),
        ('[{"image_id": "IMG_1", "segmentation": "all"}]', "neither polygons nor RLE"),
        (
            '[{"image_id": "IMG_1", "bbox": [1, 2, 3, 4]}, {"image_id": "IMG_1", "segmentation": [[1,1,5,1,5,5]]}]',
            "annotation 1, has no segmentation although",
        ),
    ],
)
def test_refusals_name_the_file_and_the_place(tmp_path, crowd, content, message):
    with pytest.raises(DataError, match=message) as raised:
        read(tmp_path, crowd, content)
    assert str(tmp_path / "predictions.txt") in str(raised.value)


@pytest.mark.parametrize("counts", ["", "ooo", "oooooo", "P3O1", "j2", [90], [96, 4], "P3\u00e9"])
@pytest.mark.parametrize("point", [{}, {"point": [1, 1]}])
def test_damaged_masks_are_refused_with_their_place(tmp_path, crowd, counts, point):
    whole = {"image_id": "IMG_1", "segmentation": rle.to_json(square(1, 1))}
    bad = {"image_id": "IMG_2", "segmentation": {"size": list(SIZE), "counts": counts}, **point}
    with pytest.raises(DataError, match=r"\.txt, annotation 3, has an RLE whose counts are not the runs of 12 x 8"):
        read(tmp_path, crowd, [whole, {**bad, "image_id": "train/IMG_3"}, bad, whole])


def test_many_masks_are_read_quickly(tmp_path, crowd):
    record = {"image_id": "IMG_1", "segmentation": rle.to_json(square(4, 2)), "point": [4, 2]}
    start = time.perf_counter()
    assert read(tmp_path, crowd, [record] * 30_000).predictions["test/IMG_1"].count == 30_000
    assert time.perf_counter() - start < 5


def test_files_that_are_not_there_or_not_text(tmp_path, crowd):
    with pytest.raises(UsageError, match="not there"):
        read_predictions(tmp_path / "none.csv", crowd)
    with pytest.raises(UsageError, match="a folder"):
        read_predictions(tmp_path, crowd)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match="not readable text"):
        read_predictions(tmp_path / "image.png", crowd)


@given(st.binary(max_size=60) | st.text("[]{},;01 IMG_.x\n\"'", max_size=40).map(str.encode))
def test_any_file_is_read_or_refused_in_a_sentence(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("any") / "file"
    file.write_bytes(content)
    dataset = Dataset(Path("root"), "folder", [sample("IMG_1")])
    try:
        found = read_predictions(file, dataset)
    except DataError as error:
        assert str(file) in str(error)
    else:
        assert list(found.predictions) == ["IMG_1"]


VALUE = st.one_of(
    st.none(), st.integers(-3, 3), st.floats(), st.text("I1", max_size=2), st.lists(st.integers(-2, 9), max_size=8),
    st.just("IMG_1"), st.just([[1, 1, 5, 1, 5, 5]]), st.just(rle.to_json(square(1, 1))), st.just({"counts": "x"}),
)  # fmt: skip
FIELDS = ["id", "image_id", "file_name", "count", "bbox", "segmentation", "score", "point", "category_id", "name"]
RECORDS = st.lists(st.one_of(VALUE, st.dictionaries(st.sampled_from(FIELDS), VALUE)), max_size=3)


@given(RECORDS | st.dictionaries(st.sampled_from(["images", "annotations", "categories"]), st.one_of(VALUE, RECORDS)))
def test_any_json_is_read_or_refused_in_a_sentence(tmp_path_factory, document):
    dataset = Dataset(Path("root"), "folder", [sample("IMG_1")])
    try:
        found = read(tmp_path_factory.mktemp("any"), dataset, document)
    except DataError as error:
        assert "predictions.txt" in str(error)
    else:
        assert list(found.predictions) == ["IMG_1"]
