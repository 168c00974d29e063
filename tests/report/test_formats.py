"""Each format is read back: by pycocotools, by crowdseg's own reader, and by the rules that its page gives."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.measure import points_in_poly

from crowdseg import rle
from crowdseg.data import Dataset
from crowdseg.engine.image_files import NamedImage
from crowdseg.engine.prediction_files import read_predictions
from crowdseg.errors import UsageError
from crowdseg.report.formats import FORMATS, labels_of, numbers_of
from crowdseg.report.prediction import Outputs, PredictionWriter
from crowdseg.structures import Prediction, Sample

SIZE = (24, 40)
PIXELS = np.zeros((*SIZE, 3), np.uint8)
NUMBERS = ("images/3610.jpg", "images/0012.jpg", "images/0700.jpg")
NAMES = ("a/IMG_1.jpg", "b/IMG_2.jpg", "b/IMG_3.png")


def prediction(folder: Path, name: str, seed: int) -> Prediction:
    """People of all kinds: a ring, one in two parts, a square, one who owns no pixel. The second image is empty."""
    labels = np.zeros(SIZE, np.int32)
    if seed != 1:
        labels[2:9, 3:10], labels[4:7, 5:8] = 1, 0
        labels[12:15, 2:5], labels[15:18, 5:9] = 2, 2
        labels[20:24, 36:40] = 3
    points = np.array([(3.25, 2.5), (3, 13), (39.4, 22), (39.4, 22)])[: 0 if seed == 1 else 4]
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)[: len(points)]
    return Prediction(SIZE, points, scores, labels, key=name, image=folder / name)


def write(folder: Path, names=NAMES, formats=tuple(FORMATS), *, masks=True) -> dict[str, Prediction]:
    """All formats of three images in ``folder/out``; what was predicted."""
    images = [NamedImage(folder / name, name) for name in names]
    for image in images:
        image.path.parent.mkdir(parents=True, exist_ok=True)
        image.path.touch()
    predicted = {}
    with PredictionWriter.open(folder / "out", images, Outputs(formats, overlay=())) as writer:
        for seed, image in enumerate(images):
            predicted[image.name] = prediction(folder, image.name, seed)
            if not masks:
                predicted[image.name].labels = None
            writer.add(predicted[image.name], PIXELS)
    return predicted


def dataset(folder: Path, names=NAMES) -> Dataset:
    samples = [Sample(str(Path(name).with_suffix("")), folder / name, SIZE, np.zeros((0, 2))) for name in names]
    return Dataset(folder, "folder", samples)


@pytest.mark.parametrize("names", [NAMES, NUMBERS])
@pytest.mark.parametrize("file", ["predictions.json", "results.json"])
def test_coco_is_read_back_as_it_was(tmp_path, names, file):
    predicted = write(tmp_path, names)
    found = read_predictions(tmp_path / "out" / file, dataset(tmp_path, names))
    for name, expected in predicted.items():
        read = found.predictions[str(Path(name).with_suffix(""))]
        np.testing.assert_array_equal(read.points, expected.points)
        np.testing.assert_array_equal(read.scores, expected.scores)
        assert read.masks() == expected.masks() if expected.count else read.count == 0


def test_coco_results_score_full_against_the_whole_file_as_truth(tmp_path):
    write(tmp_path, NUMBERS)
    truth = COCO(tmp_path / "out/predictions.json")
    assert sorted(truth.getImgIds()) == [12, 700, 3610]
    truth.dataset["annotations"] = [person for person in truth.dataset["annotations"] if person["area"]]
    truth.createIndex()
    results = truth.loadRes(str(tmp_path / "out/results.json"))
    assert {results.imgs[image]["file_name"]: len(results.getAnnIds(image)) for image in results.getImgIds()} == {
        "images/3610.jpg": 4, "images/0012.jpg": 0, "images/0700.jpg": 4,
    }  # fmt: skip
    scorer = COCOeval(truth, results, "segm")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert scorer.stats[0] == pytest.approx(1)


def test_no_people_at_all(tmp_path):
    images = [NamedImage(tmp_path / "a.jpg", "a.jpg")]
    images[0].path.touch()
    with PredictionWriter.open(tmp_path / "out", images, Outputs(tuple(FORMATS), overlay=())) as writer:
        writer.add(prediction(tmp_path, "a.jpg", 1), PIXELS)
    assert json.loads((tmp_path / "out/results.json").read_text()) == []
    assert COCO(tmp_path / "out/predictions.json").getImgIds() == [1]
    assert json.loads((tmp_path / "out/geojson/a.geojson").read_text())["features"] == []
    assert (tmp_path / "out/nwpu-localization.txt").read_text() == "a 0\n"


@pytest.mark.parametrize("names", [NAMES, NUMBERS])
def test_nwpu_is_as_the_benchmark_asks_and_is_read_back(tmp_path, names):
    predicted = write(tmp_path, names)
    stems = [Path(name).stem for name in names]
    lines = [line.split(" ") for line in (tmp_path / "out/nwpu-counting.txt").read_text().splitlines()]
    assert lines == [[stem, f"{each.count:.4f}"] for stem, each in zip(stems, predicted.values(), strict=True)]
    lines = [line.split(" ") for line in (tmp_path / "out/nwpu-localization.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == stems
    for (_, number, *values), each in zip(lines, predicted.values(), strict=True):
        assert int(number) == len(each.points) and len(values) == 2 * int(number)
        places = np.array([int(value) for value in values]).reshape(-1, 2)
        assert (places <= (SIZE[1] - 1, SIZE[0] - 1)).all()
        assert np.abs(places - each.points).max(initial=0) <= 0.5
    found = read_predictions(tmp_path / "out/nwpu-localization.txt", dataset(tmp_path, names))
    assert [each.count for each in found.predictions.values()] == [each.count for each in predicted.values()]


def test_nwpu_names_of_folders_that_repeat_and_with_spaces(tmp_path):
    assert labels_of(["a/1.jpg", "b/1.jpg"]) == ["a/1", "b/1"]
    assert labels_of(["a.jpg", "a.png"]) == ["a", "a.png"]
    with pytest.raises(UsageError, match="'my photo' has one: rename the image"):
        write(tmp_path, ["my photo.jpg", "b.jpg"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "numbers"),
    [(["2.jpg", "001.jpg"], [2, 1]), (["2.jpg", "a.jpg"], [None, None]), (["a/2.jpg", "2.png"], [None, None])],
)
def test_images_have_numbers_where_each_is_named_by_another(names, numbers):
    assert numbers_of(names) == numbers


def test_people_of_images_with_the_same_number_stay_apart(tmp_path):
    predicted = write(tmp_path, ["a/1.jpg", "b/1.jpg", "photo.jpg"])
    results = json.loads((tmp_path / "out/results.json").read_text())
    people = Counter(result["image_id"] for result in results)
    assert people == {name: len(each.points) for name, each in predicted.items() if len(each.points)}


def drawn(geometry: dict) -> np.ndarray:
    """The pixels whose centres lie in a polygon, holes left out."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    mask = np.zeros(len(centres), bool)
    for rings in {"Polygon": [geometry["coordinates"]], "MultiPolygon": geometry["coordinates"]}[geometry["type"]]:
        for ring in rings:
            mask ^= points_in_poly(centres, np.array(ring))
    return mask.reshape(SIZE)


def test_geojson_polygons_are_the_masks(tmp_path):
    predicted = write(tmp_path)
    for name, expected in predicted.items():
        document = json.loads((tmp_path / "out/geojson" / name).with_suffix(".geojson").read_text())
        assert document["type"] == "FeatureCollection" and document["image"] == name
        assert [document[key] for key in ("height", "width", "count")] == [*SIZE, expected.count]
        for feature, mask, point, score in zip(
            document["features"], expected.masks(), expected.points, expected.scores, strict=True
        ):
            told = feature["properties"]
            assert told["point"] == (point + 0.5).tolist() and told["score"] == pytest.approx(float(score))
            assert told["area"] == rle.area([mask])[0]
            if told["area"]:
                np.testing.assert_array_equal(drawn(feature["geometry"]), rle.to_mask(mask))
            else:
                assert feature["geometry"] == {"type": "Point", "coordinates": told["point"]}
        kinds = [feature["geometry"]["type"] for feature in document["features"]]
        assert kinds == ["Polygon", "MultiPolygon", "Polygon", "Point"][: len(kinds)]


def test_people_without_masks_are_points(tmp_path):
    write(tmp_path, formats=("coco", "nwpu", "geojson"), masks=False)
    features = json.loads((tmp_path / "out/geojson/a/IMG_1.geojson").read_text())["features"]
    assert [feature["geometry"]["coordinates"] for feature in features][:2] == [[3.75, 3.0], [3.5, 13.5]]
    assert all("area" not in feature["properties"] for feature in features)


def test_supervision_reads_the_whole_coco_file(tmp_path):
    supervision = pytest.importorskip("supervision")
    from PIL import Image

    predicted = write(tmp_path)
    for name in NAMES:
        Image.fromarray(PIXELS).save(tmp_path / name)
    read = supervision.DetectionDataset.from_coco(
        str(tmp_path), str(tmp_path / "out/predictions.json"), force_masks=True
    )
    assert read.classes == ["person"] and len(read) == 3
    for path, _, detections in read:
        expected = predicted[str(Path(path).relative_to(tmp_path))]
        np.testing.assert_array_equal(detections.mask, [rle.to_mask(mask) for mask in expected.masks()])
