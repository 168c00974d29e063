"""Every format, written by hand in its official layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from crowdseg import files, rle
from crowdseg.data import load_dataset
from crowdseg.data.synthetic import write_points_mat
from crowdseg.errors import DataError, UsageError

POINTS = np.array([[10.5, 20.25], [30, 5]])


def messages(dataset, *, broken: bool) -> list[str]:
    return [f"{each.file.name}: {each.message}" for each in dataset.defects if each.broken == broken]


# ShanghaiTech


@pytest.fixture
def shanghaitech(tmp_path, photograph) -> Path:
    root = tmp_path / "download" / "ShanghaiTech"
    for part, truth in (("part_A_final", "ground_truth"), ("part_B", "ground-truth")):
        for split in ("train_data", "test_data"):
            for number in (1, 2, 10):
                folder = root / part / split
                photograph(folder / "images" / f"IMG_{number}.jpg")
                write_points_mat(folder / truth / f"GT_IMG_{number}.mat", POINTS[: number % 3])
    (root / "part_B" / "train_data" / "images" / "._IMG_1.jpg").write_text("a resource fork")
    return root


def test_shanghaitech_with_both_parts(shanghaitech):
    dataset = load_dataset(shanghaitech)
    assert dataset.format == "ShanghaiTech" and dataset.defects == []
    assert [sample.key for sample in dataset.split("train")] == [
        f"{part}/train_data/images/IMG_{n}" for part in ("part_A_final", "part_B") for n in (1, 2, 10)
    ]
    assert [sample.count for sample in dataset.split("test")] == [1, 2, 1] * 2
    sample = dataset.by_key()["part_B/test_data/images/IMG_2"]
    assert sample.size == (40, 60) and np.array_equal(sample.points, POINTS) and sample.points.dtype == np.float64


@pytest.mark.parametrize(
    ("inside", "images", "first"),
    [
        ("..", 12, "part_A_final/test_data/images/IMG_1"),
        ("part_B", 6, "test_data/images/IMG_1"),
        ("part_B/train_data", 3, "images/IMG_1"),
        ("part_B/train_data/images", 3, "images/IMG_1"),
    ],
)
def test_a_folder_around_or_inside_does_too(shanghaitech, inside, images, first):
    dataset = load_dataset(shanghaitech / inside)
    assert len(dataset) == images and dataset.samples[0].key == first


def test_the_working_directory_is_a_folder_too(shanghaitech, monkeypatch):
    monkeypatch.chdir(shanghaitech / "part_B" / "test_data")
    dataset = load_dataset(".")
    assert len(dataset.split("test")) == 3 and dataset.samples[0].image.is_absolute()


def test_annotations_without_image_are_named(shanghaitech):
    (shanghaitech / "part_B" / "test_data" / "images" / "IMG_2.jpg").unlink()
    assert messages(load_dataset(shanghaitech), broken=True) == [
        "GT_IMG_2.mat: the image of this annotation is not there"
    ]


def test_shanghaitech_with_numpy_points(tmp_path, photograph):
    for name in ("IMG_1", "IMG_2"):
        photograph(tmp_path / "part_A" / "train_data" / "images" / f"{name}.jpg")
    (annotations := tmp_path / "part_A" / "train_data" / "new-anno").mkdir()
    np.save(annotations / "GT_IMG_1.npy", np.column_stack([POINTS, [7, 7]]))  # a third column is another tool's
    np.save(annotations / "IMG_2.npy", np.zeros((0, 2)))
    dataset = load_dataset(tmp_path)
    assert np.array_equal(dataset.samples[0].points, POINTS) and dataset.samples[1].count == 0


def test_bad_annotations_are_named_and_the_rest_goes_on(shanghaitech, photograph):
    unit = shanghaitech / "part_B" / "train_data"
    (unit / "ground-truth" / "GT_IMG_1.mat").write_bytes(b"")
    write_points_mat(unit / "ground-truth" / "GT_IMG_2.mat", np.array([[np.nan, 3]]))
    write_points_mat(unit / "ground-truth" / "GT_IMG_10.mat", np.array([[3, 3], [3, 3], [900, 3]]))
    photograph(unit / "images" / "IMG_11.jpg")
    (unit / "images" / "IMG_12.jpg").write_text("no image")
    write_points_mat(unit / "ground-truth" / "GT_IMG_12.mat", POINTS)
    savemat(unit / "ground-truth" / "GT_IMG_13.mat", {"other": 1})
    photograph(unit / "images" / "IMG_13.jpg")
    dataset = load_dataset(shanghaitech / "part_B")
    broken = messages(dataset, broken=True)
    assert [text.split(":")[0] for text in broken] == [
        "GT_IMG_1.mat", "GT_IMG_2.mat", "IMG_11.jpg", "IMG_12.jpg", "GT_IMG_13.mat",
    ]  # fmt: skip
    assert "empty file" in broken[0] and "no finite number" in broken[1] and "holds other" in broken[4]
    assert messages(dataset, broken=False) == [
        "GT_IMG_10.mat: 1 point outside the image, dropped",
        "GT_IMG_10.mat: 1 point exactly on another one, kept",
    ]
    points = {sample.image.name: sample.points for sample in dataset.split("train")}
    assert sorted(points) == ["IMG_1.jpg", "IMG_10.jpg", "IMG_11.jpg", "IMG_13.jpg", "IMG_2.jpg"]
    assert [name for name, each in points.items() if each is not None] == ["IMG_10.jpg"]
    assert len(dataset.split("test")) == 3


def test_true_masks_follow_the_points(shanghaitech):
    unit = shanghaitech / "part_B" / "train_data"
    write_points_mat(unit / "ground-truth" / "GT_IMG_2.mat", np.array([[-50, 3], [10, 10]]))  # the first is dropped
    labels = np.zeros((40, 60), np.int32)
    labels[:5, :5], labels[8:12, 8:12] = 1, 2
    files.write_label_map(unit / "masks" / "IMG_2.png", labels)
    files.write_label_map(unit / "masks" / "IMG_1.png", labels)  # two labels for one point
    dataset = load_dataset(shanghaitech / "part_B" / "train_data")
    (mask,) = dataset.by_key()["images/IMG_2"].masks
    assert np.array_equal(rle.to_mask(mask), labels == 2)
    assert len(dataset.broken) == 1 and "IMG_1.png does not fit" in dataset.broken[0].message


# UCF


def test_ucf_qnrf(tmp_path, photograph):
    for split in ("Train", "Test"):
        for name in ("img_0001", "img_0002"):
            photograph(tmp_path / "UCF-QNRF_ECCV18" / split / f"{name}.jpg")
            savemat(tmp_path / "UCF-QNRF_ECCV18" / split / f"{name}_ann.mat", {"annPoints": POINTS})
    dataset = load_dataset(tmp_path)
    assert dataset.format == "UCF-QNRF" and [sample.key for sample in dataset.split("train")] == [
        "Train/img_0001", "Train/img_0002",
    ]  # fmt: skip
    assert np.array_equal(dataset.split("test")[1].points, POINTS)
    assert len(load_dataset(tmp_path / "UCF-QNRF_ECCV18" / "Test").split("test")) == 2


def test_ucf_cc_50_has_no_test_split(tmp_path, photograph):
    for name in ("1", "2"):
        photograph(tmp_path / f"{name}.jpg")
    savemat(tmp_path / "1_ann.mat", {"annPoints": POINTS})
    dataset = load_dataset(tmp_path)
    assert dataset.format == "UCF_CC_50" and len(dataset.split("train")) == 2
    assert messages(dataset, broken=True) == ["2.jpg: no annotation for this image"]


# JHU-CROWD++


def test_jhu(tmp_path, photograph):
    for split in ("train", "val", "test"):
        folder = tmp_path / "jhu_crowd_v2.0" / split
        for name, text in (("0001", "10 20 4 6 1 0\n30 5 8 8 2 1\n"), ("0002", "")):
            photograph(folder / "images" / f"{name}.jpg")
            (folder / "gt").mkdir(exist_ok=True)
            (folder / "gt" / f"{name}.txt").write_text(text)
        (folder / "image_labels.txt").write_text("0001,2,protest,0,0\n0002,0,street,1,0\n")
    (tmp_path / "jhu_crowd_v2.0" / "val" / "image_labels.txt").write_text("0001,3,protest,0,0\n")
    (tmp_path / "jhu_crowd_v2.0" / "test" / "gt" / "0002.txt").write_text("10 20 4\n")
    dataset = load_dataset(tmp_path / "jhu_crowd_v2.0")
    assert dataset.format == "JHU-CROWD++" and [len(each) for each in dataset.splits.values()] == [2, 2, 2]
    crowd, nobody = dataset.split("train")
    assert crowd.key == "train/images/0001" and crowd.points.tolist() == [[10, 20], [30, 5]]
    assert crowd.boxes.tolist() == [[8, 17, 12, 23], [26, 1, 34, 9]]
    assert nobody.points.shape == (0, 2) and nobody.boxes.shape == (0, 4)
    assert messages(dataset, broken=False) == ["0001.txt: 2 points, 3 according to image_labels.txt"]
    assert "line 1 has fewer than four numbers" in messages(dataset, broken=True)[0]


# NWPU-Crowd


@pytest.mark.parametrize("form", ["jsons", "mats"])
@pytest.mark.parametrize("images", ["images", "images_part{}"])
def test_nwpu(tmp_path, photograph, form, images):
    for number in range(1, 6):
        photograph(tmp_path / images.format(1 + number % 2) / f"000{number}.jpg")
    (tmp_path / form).mkdir()
    for number in (1, 2, 4):
        boxes = [[8, 17, 12, 23], [26, 1, 34, 9]]
        if form == "jsons":
            content = {"img_id": f"000{number}.jpg", "human_num": 2, "points": POINTS.tolist(), "boxes": boxes}
            (tmp_path / form / f"000{number}.json").write_text(json.dumps(content))
        else:
            savemat(tmp_path / form / f"000{number}.mat", {"annPoints": POINTS, "annBoxes": np.array(boxes)})
    (tmp_path / "train.txt").write_text("0001 1 2\n0003 0 0\n0009 0 0\n")
    (tmp_path / "val.txt").write_text("0002 1 2\n")
    dataset = load_dataset(tmp_path)
    assert dataset.format == "NWPU-Crowd"
    assert {sample.image.stem: sample.split for sample in dataset.samples} == {
        "0001": "train", "0002": "val", "0003": "train", "0004": "train", "0005": "test",
    }  # fmt: skip
    assert dataset.split("val")[0].boxes.tolist() == [[8, 17, 12, 23], [26, 1, 34, 9]]
    assert dataset.split("test")[0].points is None
    assert messages(dataset, broken=True) == [
        "0003.jpg: no annotation for this image",
        "train.txt: listed images that are not there (1): 0009",
    ]


def test_nwpu_nobody(tmp_path, photograph):
    photograph(tmp_path / "images" / "0001.jpg")
    (tmp_path / "jsons").mkdir()
    (tmp_path / "jsons" / "0001.json").write_text('{"points": [], "boxes": [], "human_num": 0}')
    (sample,) = load_dataset(tmp_path).samples
    assert sample.points.shape == (0, 2) and sample.boxes.shape == (0, 4)


# COCO


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def write_coco(file: Path, names: list[str], annotations: list[dict], **more: object) -> None:
    images = [{"id": str(i), "file_name": name, "height": 40, "width": 60} for i, name in enumerate(names)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"annotations": annotations, "images": images, **more}))


def test_coco(tmp_path, photograph):
    for name in ("train2017/a.jpg", "train2017/b.jpg", "train2017/c.jpg", "val2017/a.jpg", "test2017/z.jpg"):
        photograph(tmp_path / name)
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}]
    crowd = np.zeros((40, 60), np.uint8)
    crowd[:10] = 1
    counts = [0, *[10, 30] * 60]
    compressed = rle.to_json(rle.from_mask(crowd.T.reshape(60, 40).T.astype(bool)))
    annotations = [
        {"id": 1, "image_id": "0", "category_id": 1, "segmentation": square(10, 20, 10), "bbox": [10, 20, 10, 10]},
        {"id": 2, "image_id": "0", "category_id": 2, "segmentation": square(0, 0, 5), "bbox": [0, 0, 5, 5]},
        {
            "id": 3,
            "image_id": "0",
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [40, 60], "counts": counts},
        },
        {"id": 4, "image_id": "0", "category_id": 1, "segmentation": compressed, "point": [3, 4]},
    ]
    write_coco(
        tmp_path / "annotations/instances_train2017.json", ["a.jpg", "b.jpg"], annotations, categories=categories
    )
    write_coco(tmp_path / "annotations/instances_val2017.json", ["a.jpg", "gone.jpg"], [], categories=categories)
    write_coco(tmp_path / "annotations/captions_train2017.json", ["b.jpg"], [{"image_id": "0", "caption": "a cat"}])
    dataset = load_dataset(tmp_path)
    assert dataset.format == "COCO" and set(dataset.by_key()) == {
        "train2017/a", "train2017/b", "train2017/c", "val2017/a",
    }  # fmt: skip
    sample = dataset.by_key()["train2017/a"]
    assert sample.points.tolist() == [[15, 21], [3, 4]] and sample.boxes.tolist() == [[10, 20, 20, 30], [0, 0, 60, 10]]
    assert rle.area(sample.masks).tolist() == [100, 600] and rle.area(sample.ignore).tolist() == [600]
    assert dataset.by_key()["train2017/b"].count == 0 and dataset.by_key()["train2017/c"].points is None
    assert dataset.by_key()["val2017/a"].split == "val"
    assert messages(dataset, broken=True) == ["instances_val2017.json: image gone.jpg is not there"]
    assert messages(dataset, broken=False) == ["c.jpg: no record of this image in the JSON file"]
    assert [sample.key for sample in load_dataset(tmp_path / "val2017").samples] == ["val2017/a"]
    assert len(load_dataset(tmp_path / "annotations" / "instances_val2017.json")) == 1


def test_coco_without_person_or_licenses_beside_its_images(tmp_path, photograph):
    photograph(tmp_path / "cells.png")
    photograph(tmp_path / "odd.png")
    annotations = [
        {"id": "a", "image_id": "0", "category_id": 7, "segmentation": square(10, 20, 11)},
        {"id": "b", "image_id": "0", "category_id": 8, "segmentation": [], "bbox": [30, 10, 4, 6]},
        {"id": "c", "image_id": "0", "category_id": 8, "segmentation": [[1, 2, 3, 4]]},
    ]
    file = tmp_path / "test_cells.json"
    write_coco(file, ["cells.png", "odd.png"], annotations)
    content = json.loads(file.read_text())
    content["images"][1]["height"] = 41
    file.write_text(json.dumps(content))
    dataset = load_dataset(tmp_path)
    cells, odd = dataset.split("test")
    assert cells.points.tolist() == [[15, 25], [31.5, 12.5]] and cells.masks is None
    assert odd.points is None
    assert [text.split(" (")[0] for text in messages(dataset, broken=True)] == [
        "cells.png: annotation c is unusable",
        f"odd.png: {file} says",
    ]


# Label maps


def test_penn_fudan_gets_head_points(tmp_path, photograph):
    photograph(tmp_path / "PNGImages" / "Penn1.png")
    photograph(tmp_path / "PNGImages" / "Penn2.png")
    labels = np.zeros((40, 60), np.int32)
    labels[4:34, 10:21], labels[0:40, 40:45] = 3, 9  # ids with gaps
    files.write_label_map(tmp_path / "PedMasks" / "Penn1_mask.png", labels)
    dataset = load_dataset(tmp_path)
    sample = dataset.samples[0]
    assert dataset.format == "PennFudan" and sample.key == "PNGImages/Penn1"
    assert sample.points.tolist() == [[15, 6], [42, 3]] and rle.area(sample.masks).tolist() == [330, 200]
    assert messages(dataset, broken=True) == ["Penn2.png: no annotation for this image"]


def test_one_mask_per_file(tmp_path, photograph):
    for name in ("ab", "cd"):
        photograph(tmp_path / "stage1_train" / name / "images" / f"{name}.png")
        for number in range(2):
            mask = np.zeros((40, 60), np.uint8)
            mask[5 : 16 + number, 10 + 20 * number : 21 + 20 * number] = 255
            path = tmp_path / "stage1_train" / name / "masks" / f"f{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(mask).save(path)
    photograph(tmp_path / "stage1_test" / "ef" / "images" / "ef.png")
    (tmp_path / "stage1_train" / "cd" / "masks" / "f1.png").write_bytes(b"")
    dataset = load_dataset(tmp_path)
    assert [sample.count for sample in dataset.split("train")] == [2, 0]
    assert dataset.split("train")[0].points.tolist() == [[15, 10], [35, 10]]
    assert dataset.split("test")[0].points is None
    assert len(dataset.defects) == 1 and "f1.png" in dataset.defects[0].message


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.jpg", "masks/a.png"),
        ("images/a.jpg", "masks/a_mask.png"),
        ("a.jpg", "a_mask.png"),
        ("img1.tif", "mask1.tif"),
    ],
)
def test_label_maps_beside_or_in_a_folder(tmp_path, photograph, image, mask):
    photograph(tmp_path / image)
    labels = np.zeros((40, 60), np.uint16)
    labels[10:21, 10:21] = 1
    (tmp_path / mask).parent.mkdir(exist_ok=True)
    Image.fromarray(labels).save(tmp_path / mask)
    (sample,) = load_dataset(tmp_path).samples
    assert sample.image.name == Path(image).name and sample.points.tolist() == [[15, 15]] and sample.split == "train"


def test_a_label_map_of_another_size_is_broken(tmp_path, photograph):
    photograph(tmp_path / "a.png")
    files.write_label_map(tmp_path / "a_mask.png", np.ones((40, 61), np.int32))
    dataset = load_dataset(tmp_path)
    assert dataset.samples[0].points is None and "has size (40, 61)" in dataset.broken[0].message


# points.csv


def test_points_csv(tmp_path, photograph):
    for name in ("a.jpg", "b.JPG", "sub/c.png", "sub/a.png", "empty.jpg"):
        photograph(tmp_path / name, format="PNG")
    table = (
        "\ufeffImage, x ,y,split\r\na.jpg,1.5,2,train\r\na.jpg,3,4,\r\nb,5,6,val\r\nsub/c,7,8,test\r\nsub\\a.png,,,\r\n"
    )
    (tmp_path / "points.csv").write_bytes(table.encode())
    dataset = load_dataset(tmp_path)
    assert dataset.defects == [] and {s.key: (s.count, s.split) for s in dataset.samples} == {
        "a": (2, "train"), "b": (1, "val"), "empty": (0, "train"), "sub/a": (0, "train"), "sub/c": (1, "test"),
    }  # fmt: skip
    assert dataset.by_key()["a"].points.tolist() == [[1.5, 2], [3, 4]]


def test_odd_rows_of_points_csv_are_named_by_line(tmp_path, photograph):
    for name in ("a.jpg", "sub/a.jpg", "c.jpg"):
        photograph(tmp_path / name)
    rows = "image;x;y;split\nc;1;2;train\ngone.jpg;1;2;\na;1;2;\nc;one;2;\nc;5;6;test\nc;nan;2;\n"
    (tmp_path / "points.csv").write_text(rows)
    dataset = load_dataset(tmp_path)
    assert [text.split(": ", 1)[1] for text in messages(dataset, broken=True)] == [
        "line 3: 'gone.jpg' is not among the images",
        "line 4: 'a' fits several images",
        "line 5, 7: x and y are not numbers",
        "line 6: c.jpg is in two splits",
    ]
    assert dataset.by_key()["c"].points.tolist() == [[1, 2], [5, 6]]


@pytest.mark.parametrize("content", ["", "a.jpg,1,2\n"])
def test_points_csv_needs_its_header(tmp_path, photograph, content):
    photograph(tmp_path / "a.jpg")
    (tmp_path / "points.csv").write_text(content)
    with pytest.raises(DataError, match=r"header image,x,y"):
        load_dataset(tmp_path)


# What is not a dataset


def test_unknown_folders_say_what_was_looked_for(tmp_path, photograph):
    photograph(tmp_path / "pictures" / "a.jpg")
    with pytest.raises(UsageError, match=r"points\.csv") as caught:
        load_dataset(tmp_path)
    assert "JHU-CROWD++" in str(caught.value) and str(tmp_path) in str(caught.value)


def test_several_datasets_are_named(shanghaitech, photograph):
    photograph(shanghaitech.parent / "own" / "a.jpg")
    (shanghaitech.parent / "own" / "points.csv").write_text("image,x,y\n")
    with pytest.raises(UsageError, match="holds 2 datasets"):
        load_dataset(shanghaitech.parent)


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match="absent is not there"):
        load_dataset(tmp_path / "absent")


def test_fingerprint_depends_on_the_points_alone(shanghaitech):
    before = load_dataset(shanghaitech).fingerprint()
    moved = shanghaitech.rename(shanghaitech.parent / "elsewhere")
    assert load_dataset(moved).fingerprint() == before
    write_points_mat(moved / "part_B" / "train_data" / "ground-truth" / "GT_IMG_2.mat", POINTS + 0.5)
    assert load_dataset(moved).fingerprint() != before


# The real files


def test_real_files(real_data):
    counts = {
        "ShanghaiTech/part_A": {"train": (276, 147_555), "test": (128, 54_011)},
        "ShanghaiTech/part_B": {"train": (30, 4_136), "test": (12, 1_713)},
        "UCF_CC_50": {"train": (13, 16_582)},
        "PennFudanPed": {"train": (24, 87)},
        "coco": {"train": (16, 154), "val": (7, 71)},
        "ochuman_coco_rle": {"test": (2, 3)},
        "stardist_nuclei": {"train": (1, 65)},
    }
    for name, expected in counts.items():
        dataset = load_dataset(real_data / name)
        found = {split: (len(each), sum(s.count for s in each)) for split, each in dataset.splits.items()}
        assert found == expected, name
        assert dataset.broken == [], name
    assert sum(len(sample.ignore) for sample in load_dataset(real_data / "coco").samples) == 9  # of people
    outside = [each.file.name for each in load_dataset(real_data / "UCF_CC_50").defects]
    assert outside == ["17_ann.mat", "20_ann.mat"]
