import csv
import io
import json
import os
import re
import signal
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from rich.console import Console

import crowdseg.engine
from crowdseg import files, rle
from crowdseg.data import Dataset
from crowdseg.engine.memory import OutOfMemory
from crowdseg.engine.predicting import PredictedImages
from crowdseg.engine.prediction_files import read_predictions
from crowdseg.errors import UsageError
from crowdseg.report import prediction
from crowdseg.report.journal import Journal
from crowdseg.structures import Prediction, Sample


class FakeModel:
    """Finds two people, each a square, in every image; the second one scores 0.3."""

    name, record, draws_masks = "fake", {}, True

    def __init__(self, run=None):
        self.run, self.asked = Path(run or "runs/count/newest"), []

    def predict(self, image, *, min_score=0.5, masks=True, **options):
        assert image.dtype == np.uint8 and image.ndim == 3
        self.asked.append({"min_score": min_score, "masks": masks, **options})
        labels = np.zeros(image.shape[:2], np.int32)
        labels[1:5, 1:5], labels[6:9, 6:9] = 1, 2
        points, scores = np.array([[2.5, 2.5], [7.0, 7.0]]), np.array([0.9, 0.3], np.float32)
        return Prediction(image.shape[:2], points, scores, labels if masks else None).above(min_score)

    def predict_together(self, images, **options):
        return [self.predict(image, **options) for image in images]

    def check_file(self, size, **options):
        if options.get("max_memory") == 2**20:
            raise OutOfMemory("the fake takes more than 0.1 GB")


@pytest.fixture
def model(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    loaded = []

    def load(run=None, device="auto"):
        loaded.append(FakeModel(run))
        for name in ("weights.safetensors", "config.yaml"):
            if not (loaded[-1].run / name).is_file():
                files.write_text(loaded[-1].run / name, "something")
        return loaded[-1]

    monkeypatch.setattr(crowdseg.engine, "load", load)
    return loaded


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for name in ("IMG_2.jpg", "IMG_10.png", "A day/IMG_1.jpg"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)).save(file)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_text("no image")
    return folder


def test_folder_gives_counts_and_files(run, model, photos):
    code, out, _ = run("predict", photos, "--save-masks")
    assert code == 0
    assert out == "A day/IMG_1.jpg\t1\nIMG_2.jpg\t1\nIMG_10.png\t1\n"
    folder = Path("runs/predict/photos")
    names = ["A day/IMG_1", "IMG_2", "IMG_10"]
    assert list(csv.reader((folder / "counts.csv").open()))[1] == ["A day/IMG_1.jpg", "1"]
    for name in names:
        labels = files.read_label_map(folder / "masks" / f"{name}.png")
        assert (labels.shape, labels.sum()) == ((20, 30), 16)
        assert Image.open(folder / "overlays" / f"{name}.jpg").size == (480, 320)  # small ones are enlarged
    assert {path.name for path in folder.iterdir()} == {
        "counts.csv", "page.html", "people.jsonl", "predictions.json", "masks", "overlays",
    }  # fmt: skip


def test_predictions_are_a_coco_file_and_its_annotations_are_results(run, model, photos):
    run("predict", photos, "--overlay", "none", "--min-score", "0.1", "--out", "there")
    coco = COCO("there/predictions.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == ["A day/IMG_1.jpg", "IMG_2.jpg", "IMG_10.png"]
    assert coco.dataset["info"]["min_score"] == 0.1 and coco.dataset["info"]["model"] == "fake"
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=2))
    assert (first["bbox"], first["area"], first["point"]) == ([1, 1, 4, 4], 16, [2.5, 2.5])
    assert (second["score"], coco.annToMask(second).sum()) == (0.300000012, 9)
    results = coco.loadRes(coco.dataset["annotations"])
    assert len(results.getAnnIds()) == 6
    assert not Path("there/overlays").exists()


def test_what_was_written_is_read_back(run, model, photos):
    run("predict", photos, "--overlay", "none", "--min-score", "0", "--out", "there")
    sample = Sample("photos/IMG_2", photos / "IMG_2.jpg", (20, 30), np.zeros((0, 2)))
    dataset = Dataset(photos, "folder", [sample, Sample("IMG_10", photos / "IMG_10.png", (20, 30), None)])
    dataset.samples.append(Sample("A day/IMG_1", photos / "A day/IMG_1.jpg", (20, 30), None))
    expected = FakeModel().predict(np.zeros((20, 30, 3), np.uint8), min_score=0)
    read = read_predictions("there/predictions.json", dataset).predictions["photos/IMG_2"]
    assert np.array_equal(read.points, expected.points) and np.array_equal(read.scores, expected.scores)
    assert read.masks() == rle.from_label_map(expected.labels, 2)
    counts = read_predictions("there/counts.csv", dataset)
    assert [prediction.count for prediction in counts.predictions.values()] == [2, 2, 2]


def test_max_memory_is_asked_before_the_first_image(run, model, photos):
    code, _, _ = run("predict", photos / "IMG_2.jpg", "--no-page", "--max-memory", "1.5GB")
    assert code == 0 and model[0].asked[0]["max_memory"] == 1.5 * 2**30
    code, out, err = run("predict", photos, "--out", "there", "--max-memory", "1mb")
    assert code == 1 and "takes more than 0.1 GB" in err and ".jpg: " in err.replace("\n", "") and out == ""
    assert not model[1].asked
    code, _, err = run("predict", photos, "--max-memory", "much")
    assert code == 2 and "`much` is no amount of memory" in err


@pytest.mark.parametrize("as_option", [False, True])
def test_run_after_the_images_or_as_option(run, model, photos, tmp_path, as_option):
    chosen = tmp_path / "runs/seg/mine"
    files.write_json(chosen / "weights.json", {})
    arguments = ["--run", chosen] if as_option else [chosen]
    code, out, _ = run("predict", photos / "IMG_2.jpg", *arguments, "--overlay", "none", "--tile", 512)
    assert code == 0 and out == "IMG_2.jpg\t1\n" and model[0].run == chosen
    assert model[0].asked == [{"min_score": 0.5, "masks": True, "tile": 512}]
    assert Path("runs/predict/IMG_2/counts.csv").is_file()


@pytest.mark.parametrize("sources", [["."], ["**/*.png"], ["p", "there"]])
def test_what_was_written_is_not_taken_for_photographs(run, model, tmp_path, sources):
    square(tmp_path / "p/b.png"), square(tmp_path / "there/a.png")
    expected = "p/b.png\t1\nthere/a.png\t1\n"
    for out in (["--out", "there"], [], ["--out", "there"], ["--out", "p/new"], []):
        code, text, err = run("predict", *sources, *out, "--save-masks")
        assert code == 0 and text == expected
    assert "Left out, as crowdseg wrote it: " in err
    code, _, err = run("predict", "there/masks", "--out", "again")  # what is named is wanted
    assert code == 0 and "Left out" not in err


def test_what_cannot_be_read_is_told_of(run, monkeypatch, model, tmp_path):
    square(tmp_path / "photos/a.jpg")
    (tmp_path / "photos/gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "photos/closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # as root may read everything
    code, out, err = run("predict", "photos")
    assert code == 3 and out == "a.jpg\t1\n" and "2 of 3 images could not be read" in err
    assert "photos/gone.jpg is not there" in err and "photos/closed " in err


def test_patterns_quoted_or_expanded_by_the_shell(run, model, photos):
    code, out, _ = run("predict", f"{photos}/**/*.jpg", "--overlay", "none")
    assert code == 0 and out.split("\n")[:2] == ["A day/IMG_1.jpg\t1", "IMG_2.jpg\t1"]
    code, out, _ = run("predict", photos / "IMG_2.jpg", photos / "IMG_10.png", "--overlay", "none")
    assert code == 0 and out == "IMG_2.jpg\t1\nIMG_10.png\t1\n" and Path("runs/predict/photos").is_dir()


def test_broken_images_do_not_stop_the_others(run, model, photos):
    (photos / "IMG_3.jpg").write_bytes(b"\xff\xd8 nothing")
    code, out, err = run("predict", photos, "--overlay", "none", "--json")
    assert code == 3 and "1 of 4 images could not be read" in err and "IMG_3.jpg" in err
    document = json.loads(out)
    assert document["total"] == 3 and [each["image"] for each in document["broken"]] == ["IMG_3.jpg"]
    assert Path("runs/predict/photos/counts.csv").read_text().count("\n") == 4


def test_count_only_draws_no_masks(run, model, photos):
    code, _, _ = run("predict", photos, "--count-only", "--overlay", "none")
    assert code == 0 and not any(asked["masks"] for asked in model[0].asked)
    document = json.loads(Path("runs/predict/photos/predictions.json").read_text())
    assert document["annotations"][0]["point"] == [2.5, 2.5] and "segmentation" not in document["annotations"][0]


def test_pictures_that_differ_in_extension_alone_do_not_overwrite_one_another(run, model, photos):
    Image.open(photos / "IMG_2.jpg").save(photos / "IMG_2.png")
    run("predict", photos, "--overlay", "none", "--save-masks")
    assert len(list(Path("runs/predict/photos/masks").rglob("*.png"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not there"),
        (["empty"], "empty holds no images"),
        (["empty/*.jpg"], "empty/*.jpg holds no images"),
        ([""], "A source is empty text. Name an image"),
        (["https://example.org/a.jpg"], "https://example.org/a.jpg is a URL, and crowdseg reads files alone"),
        (["s3://bucket/a.jpg"], "s3://bucket/a.jpg is a URL"),
        (["photos", "--count-only", "--save-masks"], "--count-only draws no masks: leave it out, or leave out --save-"),
        (["photos", "--count-only", "--format", "coco-results"], "or leave out --format coco-results"),
        (["photos", "--overlay", "boxes"], "--overlay has 'boxes': choose among points, masks, outlines, density"),
        (["photos", "--format", "coco,gif"], "--format has 'gif': choose among coco, coco-results, nwpu, geojson"),
        (["photos/A day", "photos/IMG 3.jpg", "--format", "nwpu"], "'IMG 3' has one: rename the image"),
    ],
)
def test_requests_that_make_no_sense(run, model, photos, arguments, message):
    Path("empty").mkdir()
    Image.open(photos / "IMG_2.jpg").save(photos / "IMG 3.jpg")
    code, out, err = run("predict", *arguments)
    assert code == 2 and message in err and out == "" and not Path("runs/predict").exists()


def test_without_a_run_nothing_is_written(run, monkeypatch, model, photos):
    def no_run(run=None, device="auto"):
        raise UsageError("There is no trained run under ./runs.")

    monkeypatch.setattr(crowdseg.engine, "load", no_run)
    code, _, err = run("predict", photos)
    assert code == 2 and "no trained run" in err and not Path("runs").exists()


def test_nothing_is_left_half_written(run, monkeypatch, model, photos):
    monkeypatch.setattr(FakeModel, "predict", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, _ = run("predict", photos, "--overlay", "none")
    assert code == 130 and list(Path("runs/predict/photos").iterdir()) == []


OUTPUTS = ("counts.csv", "page.html", "predictions.json", "people.jsonl")


def contents(folder="runs/predict/photos") -> dict[str, bytes]:
    """Every file that was written, by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def stop_at(monkeypatch, number: int) -> None:
    """Ctrl-C at the number-th image, the last time that the model is asked."""
    original, asked = FakeModel.predict, []

    def predict(self, *arguments, **options):
        asked.append(1)
        if len(asked) == number:
            monkeypatch.setattr(FakeModel, "predict", original)
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(FakeModel, "predict", predict)
    monkeypatch.setattr("crowdseg.engine.predicting.TOGETHER", 1)  # of images that are done together none is finished


def test_stopped_keeps_what_is_finished_and_goes_on_to_the_same_files(run, monkeypatch, model, photos):
    run("predict", photos, "--save-masks", "--out", "whole")
    stop_at(monkeypatch, 3)
    code, out, err = run("predict", photos, "--save-masks", "--out", "stopped")
    assert code == 130 and out == "" and "run the same command again" in err
    stopped = json.loads(Path("stopped/predictions.json").read_text())
    assert [image["file_name"] for image in stopped["images"]] == ["A day/IMG_1.jpg", "IMG_2.jpg"]
    assert Path("stopped/counts.csv").read_text() == "image,count\nA day/IMG_1.jpg,1\nIMG_2.jpg,1\n"
    code, out, err = run("predict", photos, "--save-masks", "--out", "stopped")
    assert code == 0 and "2 of 3 images were done before" in err and out.count("\n") == 3
    assert len(model[-1].asked) == 1 and contents("stopped") == contents("whole")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_a_second_signal_does_not_spoil_what_the_first_one_keeps(run, monkeypatch, model, photos):
    compose = prediction.PredictionWriter._compose

    def impatient(writer):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        compose(writer)

    monkeypatch.setattr(prediction.PredictionWriter, "_compose", impatient)
    stop_at(monkeypatch, 3)
    before = signal.getsignal(signal.SIGINT)
    code, _, err = run("predict", photos, "--out", "stopped")
    assert code == 130 and "What is finished is kept in stopped: run the same command again" in err
    assert Path("stopped/counts.csv").read_text().count("\n") == 3 and signal.getsignal(signal.SIGINT) is before


def test_killed_in_the_middle_of_a_line(run, model, photos):
    run("predict", photos)
    whole, journal = contents(), Path("runs/predict/photos/people.jsonl")
    journal.write_bytes(journal.read_bytes()[:-40])
    code, _, _ = run("predict", photos)
    assert code == 0 and len(model[-1].asked) == 1 and contents() == whole


def test_what_is_done_is_not_done_again(run, model, photos):
    _, first, err = run("predict", photos)
    assert "before" not in err
    whole = contents()
    _, again, err = run("predict", photos)
    assert again == first and "3 of 3 images were done before" in err
    assert model[-1].asked == [] and contents() == whole
    _, _, err = run("predict", photos, "--overwrite")
    assert len(model[-1].asked) == 3 and "before" not in err and contents() == whole


@pytest.mark.parametrize("change", ["score", "masks", "weights", "config", "image"])
def test_what_has_changed_is_done_again(run, model, photos, change):
    run("predict", photos, "--overlay", "none")
    options = {"score": ["--min-score", "0.1"], "masks": ["--count-only"]}.get(change, [])
    for name, file in (("weights", "weights.safetensors"), ("config", "config.yaml")):
        if change == name:
            (model[-1].run / file).write_text("another")
    if change == "image":
        Image.fromarray(np.zeros((20, 31, 3), np.uint8)).save(photos / "IMG_2.jpg")
    run("predict", photos, "--overlay", "none", *options)
    assert len(model[-1].asked) == (1 if change == "image" else 3)
    assert Path("runs/predict/photos/people.jsonl").read_text().count("\n") == 3
    images = {image["file_name"]: image for image in COCO("runs/predict/photos/predictions.json").dataset["images"]}
    assert images["IMG_2.jpg"]["width"] == (31 if change == "image" else 30)


def test_pictures_that_are_missing_are_drawn_of_what_was_found(run, model, photos):
    run("predict", photos, "--save-masks", "--out", "whole")
    run("predict", photos, "--overlay", "none", "--out", "there")
    code, _, err = run("predict", photos, "--save-masks", "--out", "there")
    assert code == 0 and "3 of 3 images were done before" in err and model[-1].asked == []
    assert contents("there") == contents("whole")
    Path("there/masks/IMG_2.png").unlink()
    run("predict", photos, "--save-masks", "--out", "there")
    assert model[-1].asked == [] and contents("there") == contents("whole")


def test_pictures_of_other_layers_are_drawn_of_what_was_found(run, model, photos):
    run("predict", photos, "--overlay", "density,outlines", "--out", "whole")
    run("predict", photos, "--out", "there")
    assert contents("there")["overlays/IMG_2.jpg"] != contents("whole")["overlays/IMG_2.jpg"]
    run("predict", photos, "--overlay", "outlines,density", "--out", "there")
    assert model[-1].asked == [] and contents("there") == contents("whole")


def test_formats_of_what_was_found(run, model, photos):
    run("predict", photos, "--format", "none", "--overlay", "none", "--no-page")
    assert set(contents()) == {"counts.csv", "people.jsonl"}
    run("predict", photos, "--format", "nwpu,coco", "--overlay", "none")
    assert model[-1].asked == [] and set(contents()) == {*OUTPUTS, "nwpu-counting.txt", "nwpu-localization.txt"}


def test_images_that_are_gone_leave_the_files(run, model, photos):
    run("predict", photos, "--overlay", "none")
    (photos / "IMG_2.jpg").unlink()
    _, out, _ = run("predict", photos, "--overlay", "none")
    assert out == "A day/IMG_1.jpg\t1\nIMG_10.png\t1\n" and model[-1].asked == []
    for name in OUTPUTS:
        assert "IMG_2" not in (Path("runs/predict/photos") / name).read_text()


def test_a_file_of_something_else_is_not_written_over(run, model, photos):
    files.write_text(Path("there/people.jsonl"), "my own people\n")
    code, _, err = run("predict", photos, "--out", "there")
    assert code == 1 and "there/people.jsonl is not a record of predictions" in err
    assert Path("there/people.jsonl").read_text() == "my own people\n"


def square(file: Path, side: int = 20) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(file)
    return file


def test_nothing_is_written_beside_the_folder(run, monkeypatch, model, tmp_path):
    photo, _ = square(tmp_path / "photos/b.png"), square(tmp_path / "home/w/a.png")
    before = photo.read_bytes()
    monkeypatch.chdir(tmp_path / "home/w")
    code, out, _ = run("predict", "a.png", "../../photos/b.png", "--out", "../../result", "--save-masks")
    assert code == 0 and out == "home/w/a.png\t1\nphotos/b.png\t1\n"
    assert photo.read_bytes() == before and (tmp_path / "result/masks/photos/b.png").is_file()
    code, out, _ = run("predict", "../../photos/b.png", "../w/../../photos/b.png")
    assert code == 0 and out == "b.png\t1\n"


def test_the_picture_of_an_image_that_is_gone_is_not_anothers(run, model, tmp_path):
    for suffix, side in ((".jpeg", 20), (".jpg", 24)):
        square(tmp_path / f"photos/a{suffix}", side)
    run("predict", "photos")
    assert {path.name for path in Path("runs/predict/photos/overlays").iterdir()} == {"a.jpg", "a.jpg.jpg"}
    (tmp_path / "photos/a.jpeg").unlink()
    run("predict", "photos")
    (left,) = Path("runs/predict/photos/overlays").iterdir()
    assert (left.name, Image.open(left).size) == ("a.jpg", (480, 480)) and model[-1].asked == []
    run("predict", "photos", "--overwrite", "--out", "anew")
    assert left.read_bytes() == Path("anew/overlays/a.jpg").read_bytes()


def test_folders_of_the_same_name_do_not_take_each_others_place(run, model, tmp_path):
    for place in ("one", "two"):
        square(tmp_path / place / "images/1.jpg")
        for _ in range(2):
            run("predict", f"{place}/images")
    lines = {path.parent.name: json.loads(path.read_text())["path"] for path in Path("runs").rglob("people.jsonl")}
    assert lines == {"images": str(tmp_path / "one/images/1.jpg"), "images-2": str(tmp_path / "two/images/1.jpg")}
    assert model[-1].asked == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_tabs_and_line_ends_of_names_part_no_fields(run, model, tmp_path):
    square(tmp_path / "photos/a\tb\n.jpg")
    assert run("predict", "photos")[1] == r"a\tb\n.jpg" + "\t1\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_names_that_are_no_text_are_written_with_replacements(run, model, tmp_path):
    square(tmp_path / "photos/caf.jpg").rename(os.fsdecode(bytes(tmp_path) + b"/photos/caf\xe9.jpg"))
    code, out, _ = run("predict", "photos", "--format", "coco,nwpu,geojson,coco-results")
    assert code == 0 and out == "caf\ufffd.jpg\t1\n"
    assert "caf\ufffd.jpg,1" in Path("runs/predict/photos/counts.csv").read_text()
    run("predict", "photos")
    assert model[-1].asked == []


def test_another_command_in_the_same_folder_is_refused(run, model, photos):
    run("predict", photos)
    before = contents()
    with closing(Journal(Path("runs/predict/photos/people.jsonl"))):
        code, _, err = run("predict", photos, "--overwrite")
        assert code == 2 and "runs/predict/photos is being written by another command" in err
    assert contents() == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of file sizes")
def test_a_full_disk_costs_nothing_that_is_done(run, model, tmp_path):
    import resource

    for number in range(30):
        square(tmp_path / f"photos/{number}.png")
    arguments = ["predict", "photos", "--overlay", "none", "--no-page", "--format", "none"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        code, _, err = run(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and "people.jsonl" in err and "Free some space and run again" in err
    code, out, _ = run(*arguments)
    assert code == 0 and out.count("\n") == 30 and 10 < len(model[-1].asked) < 30


def test_lines_stand_in_the_order_of_the_images_under_their_names(run, model, photos):
    run("predict", photos / "A day/IMG_1.jpg", photos / "IMG_10.png", "--out", "there")
    run("predict", photos, "--out", "there")
    lines = [json.loads(line) for line in Path("there/people.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == ["A day/IMG_1.jpg", "IMG_2.jpg", "IMG_10.png"]
    run("predict", photos / "A day", "--out", "there")
    assert json.loads(Path("there/people.jsonl").read_text())["image"] == "IMG_1.jpg"


@pytest.mark.parametrize("end", ["\n", "\0"])
def test_list_on_stdin(run, monkeypatch, model, photos, end):
    listed = [str(photos / "IMG_2.jpg"), str(photos / "A day"), str(photos / "IMG_99.jpg")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(end.join([*listed, ""]).encode())))
    code, out, err = run("predict", "-", "--overlay", "none")
    assert code == 3 and out == "A day/IMG_1.jpg\t1\nIMG_2.jpg\t1\n"
    assert "1 of 3 images could not be read" in err and "IMG_99.jpg is not there" in err
    assert Path("runs/predict/stdin/counts.csv").is_file()


@pytest.mark.parametrize(
    ("listed", "message"),
    [("", "- takes a list of images from stdin, and it is empty"), ("https://a.b/c.jpg\n", "is a URL")],
)
def test_lists_that_make_no_sense(run, monkeypatch, model, listed, message):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    code, out, err = run("predict", "-")
    assert code == 2 and message in err and out == ""


def test_table_for_people():
    console = Console(width=60, file=io.StringIO())
    console.print(prediction.table(PredictedImages([("a[b].jpg", 12.0), ("b.jpg", 3.25)], [("c.jpg", "is broken")])))
    rows = [line.split("│")[1:3] for line in console.file.getvalue().splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["a[b].jpg", "12"],
        ["b.jpg", "3.25"],
        ["2 images", "15.25"],
    ]


def test_the_page_is_of_the_images_asked_for_and_drawn_when_they_change(run, monkeypatch, model, photos):
    def shown() -> list[str]:
        data = re.search(r'id="data">(.*?)</script>', page.read_text())[1]
        return [image["name"] for image in json.loads(data)["images"]]

    page = Path("there/page.html")
    run("predict", photos, "--out", "there")
    assert shown() == ["A day/IMG_1.jpg", "IMG_2.jpg", "IMG_10.png"]
    before = page.stat().st_mtime_ns
    run("predict", photos, "--out", "there")
    assert page.stat().st_mtime_ns == before
    run("predict", photos / "IMG_2.jpg", photos / "IMG_10.png", "--out", "there")
    assert shown() == ["IMG_2.jpg", "IMG_10.png"]
    (photos / "IMG_3.jpg").write_bytes(b"no image")
    code, _, _ = run("predict", photos, "--out", "there")
    assert code == 3 and len(shown()) == 3 and "1 of 4 images could not be read" in page.read_text()
    stop_at(monkeypatch, 1)
    run("predict", photos, "--out", "there", "--count-only")
    assert not page.exists()  # it would not be of what else is there
