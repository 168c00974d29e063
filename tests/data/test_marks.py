"""Points out of CVAT, Label Studio and LabelMe, written by hand as the tools export them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from crowdseg.data import load_dataset
from crowdseg.errors import DataError

SIZE = (40, 60)  # of the photographs: height, width


def points(dataset) -> dict[str, list[list[float]] | None]:
    return {each.key: None if each.points is None else each.points.tolist() for each in dataset.samples}


def defects(dataset, *, broken: bool) -> list[str]:
    return [f"{each.file.name}: {each.message}" for each in dataset.defects if each.broken == broken]


def only_text(found: list[str], *parts: str) -> None:
    """Every part is in one of the messages, in order, and there is no further message."""
    assert len(found) == len(parts), found
    for message, part in zip(found, parts, strict=True):
        assert part in message, message


# CVAT


def cvat(folder: Path, images: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task>'
        f"<mode>annotation</mode></task></meta>\n{images}\n</annotations>\n"
    )
    return folder


def cvat_image(name: str, shapes: str = "", *, size=SIZE, subset: str = "default") -> str:
    return f'<image id="0" name="{name}" subset="{subset}" width="{size[1]}" height="{size[0]}">{shapes}</image>'


def cvat_points(text: str, label: str = "head") -> str:
    return f'<points label="{label}" source="manual" occluded="0" points="{text}" z_order="0"></points>'


def test_cvat(tmp_path, photograph):
    for name in ("images/Train/a.jpg", "images/Train/sub/a.jpg", "images/Test/b.png", "images/Train/c.jpg"):
        photograph(tmp_path / name, SIZE)
    images = [
        cvat_image("a.jpg", cvat_points("1.50,2.50;30.00,20.25") + cvat_points("60.00,40.00"), subset="Train"),
        cvat_image("sub/a.jpg", cvat_points("5.5,6.5") + cvat_points("9.5,9.5", "car"), subset="Train"),
        cvat_image("b.png", '<tag label="night"></tag>', subset="Validation"),
    ]
    with pytest.raises(DataError, match="not one of its images") as caught:
        load_dataset(cvat(tmp_path / "nothing", images[0]))
    assert "image a.jpg is not there" in str(caught.value)
    (tmp_path / "nothing" / "annotations.xml").unlink()
    dataset = load_dataset(cvat(tmp_path, "\n".join(images).replace('name="a.jpg"', 'name="Train/a.jpg"')))
    assert dataset.format == "CVAT" and dataset.broken == []
    assert points(dataset) == {
        "images/Train/a": [[1, 2], [29.5, 19.75], [59, 39]],  # the image's far corner goes onto its last pixel
        "images/Train/sub/a": [[5, 6]],  # of head and car, head
        "images/Test/b": [],
        "images/Train/c": None,
    }
    assert {each.key: each.split for each in dataset.samples}["images/Test/b"] == "val"
    only_text(defects(dataset, broken=False), "c.jpg: no annotation of this image")
    assert points(load_dataset(tmp_path / "annotations.xml")) == points(dataset)


def test_defects_of_cvat_are_named(tmp_path, photograph):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "one/f.jpg", "two/f.jpg"):
        photograph(tmp_path / name, SIZE)
    images = [
        cvat_image("a.jpg", cvat_points("1.5,nan")),
        cvat_image("b.jpg", cvat_points("1.5")),
        cvat_image("c.jpg", cvat_points("1.5,1.5"), size=(60, 40)),
        cvat_image("d.jpg", '<box label="head" xtl="1" ytl="1" xbr="5" ybr="5"></box>'),
        cvat_image("e.jpg", cvat_points("7.5,8.5;70,8.5") + '<box label="head"></box>'),
        cvat_image("e.jpg", cvat_points("1.5,1.5")),
        cvat_image("f.jpg", cvat_points("1.5,1.5")),
        cvat_image("gone.jpg", cvat_points("1.5,1.5")),
    ]
    dataset = load_dataset(cvat(tmp_path, "\n".join(images)))
    assert points(dataset) == {"e": [[7, 8]], **dict.fromkeys(["a", "b", "c", "d", "one/f", "two/f"])}
    file = str(tmp_path / "annotations.xml")
    only_text(
        defects(dataset, broken=True),
        f"a.jpg: {file} has a coordinate that is no finite number for a.jpg",
        f"b.jpg: {file} has points or a size that are no numbers",
        f"c.jpg: {file} says (height, width) = (60, 40)",
        f"d.jpg: {file} has 1 shape but no points",
        "annotations.xml: image e.jpg is annotated more than once",
        "annotations.xml: image f.jpg fits 2 images",
        "annotations.xml: image gone.jpg is not there",
    )
    only_text(
        defects(dataset, broken=False),
        "e.jpg: 1 point outside the image",
        "e.jpg: 1 shape other than points",
        "f.jpg: no annotation",
        "f.jpg: no annotation",
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("<annotations><image>", "not readable XML"),
        ("<annotations>\n<track id='0'></track></annotations>", "CVAT for images 1.1"),
    ],
)
def test_cvat_files_of_no_use_are_refused(tmp_path, photograph, content, sentence):
    photograph(tmp_path / "a.jpg")
    (tmp_path / "annotations.xml").write_text(content)
    with pytest.raises(DataError, match=sentence) as caught:
        load_dataset(tmp_path)
    assert str(tmp_path / "annotations.xml") in str(caught.value)


# Label Studio


def key_point(x: float, y: float, **more: object) -> dict:
    value = {"x": x, "y": y, "width": 0.4, "keypointlabels": ["Head"]}
    size = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    return {"id": "k", "type": "keypointlabels", "from_name": "kp", "to_name": "img", "value": value, **size, **more}


def task(image: str, *annotations: list[dict] | None, **more: object) -> dict:
    listed = [{"id": 1, "was_cancelled": results is None, "result": results or []} for results in annotations]
    return {"id": 1, "data": {"image": image, "note": "dusk"}, "annotations": listed, "predictions": [], **more}


def label_studio(folder: Path, tasks: list[dict]) -> Path:
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder


def test_label_studio(tmp_path, photograph):
    for name in ("train/a.jpg", "val/b c.jpg", "train/0123abcd-c.jpg", "d.jpg", "e.jpg"):
        photograph(tmp_path / name, SIZE)
    choice = {"type": "choices", "value": {"choices": ["crowded"]}}
    unlabelled = key_point(2.5, 3.75, type="keypoint", value={"x": 2.5, "y": 3.75, "width": 0.4})
    car = {"width": 0.4, "keypointlabels": ["Car"]}
    tasks = [
        task("/data/upload/3/0a1b2c3d-a.jpg", [key_point(50, 25), key_point(0, 100), choice]),
        task("/data/local-files/?d=set/val/b%20c.jpg", None, []),  # skipped by one, annotated with nobody by another
        task("s3://bucket/0123abcd-c.jpg", [unlabelled, key_point(9, 9, value={**car, "x": 9, "y": 9})]),
        task("https://host/d.jpg?signature=1", None),
        task("e.jpg", [key_point(50, 50, original_width=SIZE[1] // 2, original_height=SIZE[0] // 2)]),
    ]
    dataset = load_dataset(label_studio(tmp_path, tasks))
    assert dataset.format == "Label Studio" and dataset.broken == []
    assert points(dataset) == {
        "train/a": [[29.5, 9.5], [0, 39]],
        "val/b c": [],
        "train/0123abcd-c": [[1, 1]],
        "d": None,
        "e": [[29.5, 19.5]],
    }
    assert [each.key for each in dataset.split("val")] == ["val/b c"]
    only_text(defects(dataset, broken=False), "d.jpg: not annotated in export.json")


def test_defects_of_label_studio_are_named(tmp_path, photograph):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"):
        photograph(tmp_path / name, SIZE)
    rectangle = {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 5, "height": 5}}
    tasks = [
        task("a.jpg", [key_point(1, 1)], [key_point(2, 2)]),
        task("b.jpg", [key_point(1, 1, image_rotation=90)]),
        task("c.jpg", [key_point(1, 1, original_width=SIZE[0], original_height=SIZE[1])]),
        task("d.jpg", [rectangle]),
        task("e.jpg", [key_point("one", 1)]),
        task("gone.jpg", [key_point(1, 1)]),
        task("no image at all", [key_point(1, 1)]),
    ]
    dataset = load_dataset(label_studio(tmp_path, tasks))
    assert points(dataset) == dict.fromkeys("abcde")
    only_text(
        defects(dataset, broken=True),
        "export.json has 2 annotations, keep one of them, for a.jpg",
        "turned in Label Studio for b.jpg",
        "says (height, width) = (60, 40) for c.jpg",
        "has 1 shape but no points for d.jpg",
        "not in Label Studio's form",
        "image gone.jpg is not there",
        "no image at all",
    )


def test_json_min_is_refused(tmp_path, photograph):
    photograph(tmp_path / "a.jpg")
    (tmp_path / "export.json").write_text('[{"image": "a.jpg", "annotations": 1, "data": 2}]')
    with pytest.raises(DataError, match="not as JSON-MIN"):
        load_dataset(tmp_path)


# LabelMe


def shape(x: float, y: float, label: str = "head", kind: str = "point") -> dict:
    return {"label": label, "points": [[x, y]], "group_id": None, "shape_type": kind, "flags": {}}


def labelme(file: Path, image: str, *shapes: dict, size=SIZE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    size = {"imageHeight": size[0], "imageWidth": size[1]}
    document = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None, **size}
    file.write_text(json.dumps(document))


def test_labelme(tmp_path, photograph):
    for name in ("train/a.jpg", "train/b.jpg", "test/a.jpg", "test/free.jpg"):
        photograph(tmp_path / name, SIZE)
    labelme(tmp_path / "train/a.json", "a.jpg", shape(1.5, 2.5), shape(30, 20, "Person"), shape(5, 5, "car"))
    labelme(tmp_path / "train/b.json", "b.jpg")
    labelme(tmp_path / "points/a.json", "..\\test\\a.jpg", shape(4.5, 4.5))
    dataset = load_dataset(tmp_path)
    assert dataset.format == "LabelMe" and dataset.broken == []
    assert points(dataset) == {
        "train/a": [[1, 2], [29.5, 19.5]], "train/b": [], "test/a": [[4, 4]], "test/free": None,
    }  # fmt: skip
    assert {name: len(each) for name, each in dataset.splits.items()} == {"train": 2, "test": 2}


def test_defects_of_labelme_are_named(tmp_path, photograph):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        photograph(tmp_path / name, SIZE)
    labelme(tmp_path / "a.json", "a.jpg", shape(float("nan"), 1))
    labelme(tmp_path / "b.json", "b.jpg", shape(1, 1), size=(4, 6))
    labelme(tmp_path / "c.json", "c.jpg", shape(1, 1, kind="polygon"))
    (tmp_path / "d.json").write_text('{"shapes": [')
    labelme(tmp_path / "e.json", "gone.jpg", shape(1, 1))
    (tmp_path / "f.json").write_text('{"shapes": [{"shape_type": "point", "label": "x"}], "imagePath": "d.jpg"}')
    dataset = load_dataset(tmp_path)
    assert points(dataset) == dict.fromkeys("abcd")
    only_text(
        defects(dataset, broken=True),
        "d.json: ",
        "f.json: ",
        "a.json has a coordinate that is no finite number for",
        "b.json says (height, width) = (4, 6)",
        "c.json has 1 shape but no points",
        "e.json: image",
    )
    assert str(tmp_path / "d.json") in dataset.broken[0].message


def test_marks_are_on_the_upright_image(tmp_path, photograph):
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(tmp_path / "a.jpg", (SIZE[1], SIZE[0]), exif=exif)  # lies on its side
    labelme(tmp_path / "a.json", "a.jpg", shape(50.5, 10.5))
    assert points(load_dataset(tmp_path)) == {"a": [[50, 10]]}


def test_real_polygons_are_no_points(real_data):
    dataset = load_dataset(real_data / "labelme")
    assert dataset.format == "LabelMe" and points(dataset) == {"2011_000003": None, "2011_000025": None}
    only_text(defects(dataset, broken=True), "5 shapes but no points", "shapes but no points")
