import csv
import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crowdseg.engine
from crowdseg import files
from crowdseg.cli import evaluate
from crowdseg.engine.memory import OutOfMemory
from crowdseg.structures import Prediction


class FakeModel:
    """Finds the person at (5, 5) and one who is not there."""

    name, run = "count-fake", Path("runs/count/fake")

    def __init__(self, data: Path) -> None:
        self.record = {"data": {"root": str(data)}}

    def predict(self, image, *, min_score, masks):
        labels = np.zeros((20, 30), np.int32)
        labels[3:8, 3:8], labels[14:17, 24:27] = 1, 2
        return Prediction((20, 30), np.array([[5.0, 5.0], [25, 15]]), np.array([0.9, 0.8], np.float32), labels)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """Label maps: test image a with one person, b with two, c of the training part with nobody."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "crowd"
    for name, people in {"test/a": 1, "test/b": 2, "train/c": 0}.items():
        labels = np.zeros((20, 30), np.uint8)
        for label in range(1, people + 1):
            labels[3:8, 10 * label - 7 : 10 * label - 2] = label
        split, stem = name.split("/")
        for kind, array in (("images", np.zeros((20, 30, 3), np.uint8)), ("masks", labels)):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / split / kind / f"{stem}.png")
    monkeypatch.setattr(crowdseg.engine, "load", lambda run=None, device="auto": FakeModel(folder))
    return folder


def test_table_and_files(run, data):
    code, out, err = run("eval")
    assert code == 0, err
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if "│" in line]
    figures = {row[1]: row[2] for row in rows}
    assert figures["MAE"] == "0.50" and figures["RMSE"] == "0.71" and figures["bias"] == "+0.50"
    assert figures["NAE"] == "50.00 %" and figures["F1 within sigma_s"] == "57.14 %"
    assert figures["Mean IoU C"] == "66.67 %" and figures["mask AP50"] == "66.34 %"
    folder = Path("runs/eval/count-fake")
    assert "count-fake on crowd · test · 2 images" in out and str(folder) in err
    images = list(csv.DictReader((folder / "per_image.csv").open()))
    assert [(row["image"], row["true"], row["predicted"], row["masks"]) for row in images] == [
        ("test/images/a", "1", "2.0", "1"),
        ("test/images/b", "2", "2.0", "2"),
    ]
    assert Image.open(folder / "counts.png").size == (900, 900)
    assert "`crowdseg runs` will not show these figures" in err  # there is no run behind the fake model


def test_a_run_that_cannot_be_written_to_is_evaluated(run, data):
    files.write_json(FakeModel.run / "weights.json", {})
    (FakeModel.run / "eval-test.json").mkdir()  # in the file's place
    code, out, err = run("eval", "--json")
    assert code == 0 and json.loads(out)["counting"]["mae"] == 0.5
    assert f"Cannot write {FakeModel.run / 'eval-test.json'}" in err
    assert sorted(file.name for file in FakeModel.run.iterdir()) == ["eval-test.json", "weights.json"]


def test_json_is_the_file_and_knows_no_nan(run, data):
    code, out, _ = run("eval", "--split", "train", "--json")
    document = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert code == 0 and document == files.read_json(Path("runs/eval/count-fake-train/metrics.json"))
    # Nobody is there: two are too many, and what would divide by nobody is not defined.
    assert document["counting"]["mae"] == 2 and document["counting"]["nae"] is None
    assert document["localization"]["4 px"]["recall"] is None and document["localization"]["4 px"]["precision"] == 0
    assert document["instances"]["mean_iou_c"] is None and document["instances"]["ap"] is None
    code, out, _ = run("eval", "--split", "train")
    assert code == 0 and " - " in out and "nan" not in out.lower()


@pytest.mark.parametrize("form", ["positional", "option"])
def test_predictions_of_another_tool(run, data, form):
    Path("tool.csv").write_text("image,count\na,1\nb,5\n")
    where = [data] if form == "positional" else ["--data", data]
    code, out, _ = run("eval", "--predictions", "tool.csv", "--json", *where)
    document = json.loads(out)
    assert code == 0 and document["counting"]["bias"] == 1.5
    assert document["localization"] == {} and document["instances"] is None
    assert Path("runs/eval/tool/counts.png").is_file()
    code, out, _ = run("eval", "--predictions", "tool.csv", *where)
    assert code == 0 and "no positions" in out and "no masks to compare" in out


def test_a_lone_dataset_is_not_taken_for_a_run(run, monkeypatch, data):
    asked = []
    monkeypatch.setattr(
        crowdseg.engine, "load", lambda run=None, device="auto": asked.append(run) or FakeModel(Path("elsewhere"))
    )
    assert run("eval", data, "--out", "here")[0] == 0
    files.write_json(Path("runs/seg/mine/weights.json"), {})
    assert run("eval", "runs/seg/mine", data)[0] == 0
    assert asked == [None, Path("runs/seg/mine")]
    assert Path("here/metrics.json").is_file()


def write_tools(counts: dict[str, tuple[str, str]]) -> None:
    """CSVs of the counts of a and b, by name of the file."""
    for name, (a, b) in counts.items():
        Path(name).write_text(f"image,count\na,{a}\nb,{b}\n")


def test_another_dataset_than_that_of_the_training_has_its_own_folder(run, data):
    shutil.copytree(data, "other")
    assert run("eval", data)[0] == 0 and run("eval", "other")[0] == 0
    assert {path.name for path in Path("runs/eval").iterdir()} == {"count-fake", "count-fake-on-other"}


def test_people_below_the_score_are_told_of(run, data):
    Path("theirs.csv").write_text("image,x,y,score\na,5,5,0.9\nb,5,5,0.5\nb,15,5,0.2\n")
    _, out, _ = run("eval", "--predictions", "theirs.csv", "--data", data)
    assert "2 people scored 0.5 or less do not count" in out
    _, out, _ = run("eval", "--predictions", "theirs.csv", "--data", data, "--min-score", 0.1)
    assert "do not count" not in out


def test_two_tools_compared(run, data):
    write_tools({"near.csv": ("1", "4"), "far.csv": ("5", "4")})
    code, out, err = run("eval", "--compare", "near.csv", "far.csv", data)
    assert code == 0, err
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if "│" in line]
    figures = {row[1]: row[2:] for row in rows}
    # Of the four ways to swap two images' results, all differ by 2 people: so does what took place.
    assert figures["MAE"] == ["1.00", "3.00", "+2.00", "+0.00 to +4.00", "1.000", ""]
    assert "A near and B far on crowd · test · 2 images" in out and "p cannot fall below 0.05" in out
    assert "The count of A is closer on 1 images, that of B on 0, neither on 1." in out.replace("\n", " ")
    folder = Path("runs/eval/near-vs-far")
    assert "comparison.json, per_image.csv" in err and not Path("runs/eval/near").exists()
    images = list(csv.DictReader((folder / "per_image.csv").open()))
    assert [(row["image"], row["true"], row["a_predicted"], row["b_predicted"]) for row in images] == [
        ("test/images/a", "1", "1.0", "5.0"),
        ("test/images/b", "2", "4.0", "4.0"),
    ]


def test_a_run_and_a_tool_compared_as_json(run, data):
    files.write_json(FakeModel.run / "weights.json", {})
    tool = FakeModel.run / "tool.csv"  # a file in a run's folder is not the run
    write_tools({str(tool): ("1", "2")})
    code, out, _ = run("eval", "--compare", FakeModel.run, tool, "--data", data, "--json")
    document = json.loads(out)
    assert code == 0 and document == files.read_json(Path("runs/eval/count-fake-vs-fake-tool/comparison.json"))
    mae, nae = document["figures"]["mae"], document["figures"]["nae"]
    assert (mae["first"], mae["second"], mae["difference"], mae["better"]) == (0.5, 0, -0.5, "B")
    assert nae["first"] == 0.5 and document["figures"]["bias"]["better"] is None
    assert not document["figures"].keys() & {"game_1", "f1_within_4_px", "mean_iou_c"}  # the tool has counts alone
    assert document["closer"] == {"first": 0, "second": 1, "neither": 1}
    assert document["images"] == 2 and document["resamples"] == 2000 and document["seed"] == 0
    # The evaluation of the run is not lost.
    assert files.read_json(FakeModel.run / "eval-test.json")["mae"] == 0.5


def test_files_of_one_name_stay_apart(run, data):
    for folder in ("p1", "p2"):
        Path(folder).mkdir()
    write_tools({"p1/predictions.csv": ("1", "4"), "p2/predictions.csv": ("5", "4")})
    for folder in ("p1", "p2"):
        assert run("eval", "--predictions", f"{folder}/predictions.csv", data)[0] == 0
        assert Path(f"runs/eval/{folder}-predictions/metrics.json").is_file()
    code, out, _ = run("eval", "--compare", "p1/predictions.csv", "p2/predictions.csv", data)
    assert code == 0 and "A p1-predictions and B p2-predictions on crowd" in out


def test_names_are_shown_as_they_are(run, data):
    names = ["a[bold].csv", "b[red]$_$.csv"]
    write_tools({name: ("1", "4") for name in names})
    data = data.rename("crowd[old]")
    for name in names:
        code, out, err = run("eval", "--predictions", name, data)
        assert code == 0 and f"{name[:-4]} on crowd[old] · test · 2 images" in out, err
    code, out, err = run("eval", "--compare", *names, data)
    assert code == 0 and "A a[bold] and B b[red]$_$ on crowd[old] · test · 2 images" in out, err


def test_a_comparison_without_resampling_has_no_p(run, data):
    write_tools({"near.csv": ("1", "4"), "far.csv": ("5", "4")})
    code, out, _ = run("eval", "--compare", "near.csv", "far.csv", data, "--resamples", "0")
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if "│" in line]
    assert code == 0 and {row[1]: row[2:] for row in rows}["MAE"] == ["1.00", "3.00", "+2.00", "-", "-", ""]
    assert "p cannot" not in out
    _, out, _ = run("eval", "--compare", "near.csv", "far.csv", data, "--resamples", "0", "--json")
    assert json.loads(out)["figures"]["mae"]["p"] is None


def test_defaults_are_those_of_the_function():
    defaults = {name: parameter.default for name, parameter in inspect.signature(crowdseg.evaluate).parameters.items()}
    asked = {name: parameter.default for name, parameter in inspect.signature(evaluate.evaluate).parameters.items()}
    common = defaults.keys() & asked.keys() - {"split"}
    assert {"boundary_tolerance", "resamples", "seed", "min_score", "tile", "max_memory"} <= common
    assert {name: asked[name] for name in common} == {name: defaults[name] for name in common}


def test_an_image_too_large_for_memory_ends_in_a_sentence(run, monkeypatch, data):
    asked = []

    def predict(self, image, *, min_score, masks, max_memory):
        asked.append(max_memory)
        raise OutOfMemory("30 x 20 pixels take 9 GB and 1 GB may be taken: raise --max-memory.")

    monkeypatch.setattr(FakeModel, "predict", predict)
    code, out, err = run("eval", "--max-memory", "1GB")
    assert (code, out, asked) == (1, "", [2**30]) and "a.png: 30 x 20 pixels take 9 GB" in err.replace("\n", " ")


def test_intervals_can_be_left_out_and_seeded(run, data):
    found = []
    for options in (["--resamples", "0"], ["--resamples", "9"], ["--resamples", "9", "--seed", "1"]):
        code, out, _ = run("eval", "--json", *options)
        assert code == 0
        found.append(json.loads(out)["intervals"])
    assert found[0]["of"] == {} and found[1]["of"]["mae"]["low"] <= 0.5 <= found[1]["of"]["mae"]["high"]
    assert found[1]["seed"] == 0 and found[2]["seed"] == 1
    assert run("eval", "--resamples", "0")[1].count(" to ") == 0


@pytest.mark.parametrize(("tolerance", "agree"), [("0", 8 / 16), ("1", 1)])
def test_tolerance_of_outlines(run, monkeypatch, data, tolerance, agree):
    """One of three people is missed; the others are found a pixel lower: half of the outline's 16 pixels coincide."""

    def predict(self, image, *, min_score, masks):
        labels = np.zeros((20, 30), np.int32)
        labels[4:9, 3:8] = 1
        return Prediction((20, 30), np.array([[5.0, 6.0]]), np.ones(1, np.float32), labels)

    monkeypatch.setattr(FakeModel, "predict", predict)
    _, out, _ = run("eval", "--json", "--boundary-tolerance", tolerance)
    masks = json.loads(out)["instances"]
    assert masks["boundary_f"] == pytest.approx(agree * 2 / 3) and masks["boundary_tolerance"] == float(tolerance)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--compare", "tool.csv", "tool.csv", "crowd"], 2, "compared with itself"),
        (["--compare", "tool.csv", "nowhere.csv", "crowd"], 2, "nowhere.csv is not there"),
        (
            ["--compare", "tool.csv", "crowd/test", "--predictions", "tool.csv", "crowd"],
            2,
            "--compare A B already names",
        ),
        (["run", "crowd", "--compare", "tool.csv", "other.csv"], 2, "run beside it is too much"),
        (["--predictions", "tool.csv"], 2, "--data DATA"),
        (["--split", "val"], 2, "no annotated images in its val split"),
        (["run", "crowd", "--data", "crowd"], 2, "Two datasets are named"),
        (["crowd", "--predictions", "nowhere.csv"], 2, "nowhere.csv is not there"),
        (["crowd", "--predictions", "crowd/test/images/a.png"], 1, "not readable text"),
    ],
)
def test_requests_that_make_no_sense(run, data, arguments, code, message):
    write_tools({"tool.csv": ("1", "5"), "other.csv": ("1", "2")})
    got, out, err = run("eval", *arguments)
    assert (got, out) == (code, "") and message in err and not Path("runs").exists()
