"""The installed command line: export and its model card, whose code is run as a reader would run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowdseg.engine import load
from crowdseg.engine.checkpoint import save_weights
from crowdseg.engine.inference import run_network

SETTINGS = ["width=8", "crop=64", "eval_every=1"]
SETTINGS += ["pretrain.epochs=2", "segment.epochs=1", "pretrain.warmup_epochs=1"]
PHOTO = np.random.default_rng(3).integers(0, 256, (107, 140, 3), dtype=np.uint8)


def crowdseg(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("crowdseg")), *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def folder(crowd, tmp_path_factory) -> Path:
    """A folder with the trained and evaluated run ``runs/seg/small`` and its TorchScript export."""
    folder = tmp_path_factory.mktemp("export")
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    names = ["--masks", crowd.masks, "--out", "runs/seg/small", "--preset", "demo", "--ratio", "0.5", "--device", "cpu"]
    done = crowdseg(folder, "train-seg", crowd.data, *names, *options)
    assert done.returncode == 0, done.stderr
    see_people(folder / "runs/seg/small")
    for command in (["eval", "runs/seg/small", "--device", "cpu"], ["export", "--format", "torchscript"]):
        done = crowdseg(folder, *command)
        assert done.returncode == 0, done.stderr
    assert "runs/export/seg-small/model.pt" in done.stdout and "differs from PyTorch" in done.stdout
    return folder


def see_people(run: Path) -> None:
    """Shift the logits of a barely trained network so that it takes every fiftieth cell of the photo for a person."""
    model = load(run, "cpu")
    logits = run_network(model.network, PHOTO, False).logits
    model.network.density_head.layers[-2].bias[4:] -= logits.quantile(0.98)
    save_weights(run, model.network, model.record)


def card(folder: Path) -> str:
    return (folder / "runs/export/seg-small/README.md").read_text()


def test_the_card_tells_what_the_runs_files_tell(folder: Path) -> None:
    text = card(folder)
    record = json.loads((folder / "runs/seg/small/weights.json").read_text())
    metrics = json.loads((folder / "runs/eval/seg-small/metrics.json").read_text())
    val, counting = record["val"], metrics["counting"]
    assert f"stage `segment` on the validation images, after epoch {val['epoch']}" in text
    assert f"MAE {val['mae']:.2f}, RMSE {val['rmse']:.2f}" in text
    assert f"test split of data, {counting['images']} images" in text
    assert f"| MAE | {counting['mae']:.2f} |" in text
    labelled, unlabelled = len(record["data"]["labelled"]), record["data"]["unlabelled_images"]
    assert f"prepared from the points | {labelled} |" in text and f"| unlabelled | {unlabelled} |" in text
    assert "a share of 0.5 with seed 2024" in text


def test_the_card_lists_the_settings_that_differ_from_the_preset_and_no_others(folder: Path) -> None:
    table = card(folder).split("## Settings")[1].split("##")[0]
    listed = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(["ratio", *(setting.split("=")[0] for setting in SETTINGS)])
    assert "| `pretrain.epochs` | 36 | 2 |" in table


def test_the_card_names_no_file_nor_folder_of_the_data(folder: Path, crowd) -> None:
    record = json.loads((folder / "runs/seg/small/weights.json").read_text())
    names = [Path(key).name for key in (*record["data"]["labelled"], *record["data"]["val"])]
    assert names and not [name for name in [*names, str(crowd.data.parent)] if name in card(folder)]


def test_scores_of_other_weights_are_left_out(folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(folder / "runs/seg/small", tmp_path / "later")
    record = json.loads((run / "weights.json").read_text())
    record["val"]["epoch"] += 1
    (run / "weights.json").write_text(json.dumps(record))
    done = crowdseg(tmp_path, "export", "later", "--format", "torchscript", "--out", "old/model.pt")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "old/README.md").read_text()
    assert "Not yet scored on test images: `crowdseg eval later`" in text and "test split" not in text


def check_code_of_card(folder: Path, place: Path, photo: Path) -> None:
    """Run the two blocks of a card in its folder; they find what ``predict`` finds."""
    code = re.findall(r"^```python\n(.*?)^```", (place / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(code) == 2
    (place / "photo.jpg").write_bytes(photo.read_bytes())
    shown = 'import json; print(json.dumps([points.tolist(), labels.tolist(), str(labels.dtype)]), end="")'
    done = subprocess.run([sys.executable, "-c", "\n".join([*code, shown])], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    people, result = done.stdout.split("\n")
    points, labels, _ = json.loads(result)
    assert people == f"{len(points)} people" and len(points) > 5

    predicted = crowdseg(folder, "predict", photo, "--run", "runs/seg/small", "--save-masks", "--out", place / "out")
    assert predicted.returncode == 0, predicted.stderr
    document = json.loads((place / "out/predictions.json").read_text())
    assert [person["point"] for person in document["annotations"]] == points
    mask = np.asarray(Image.open(place / "out/masks" / f"{photo.stem}.png"))
    assert (np.array(labels) != mask).mean() < 0.001


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    Image.fromarray(PHOTO).save(path)
    return path


def test_the_code_of_the_card_runs(folder: Path, photo: Path) -> None:
    check_code_of_card(folder, folder / "runs/export/seg-small", photo)


def test_onnx_beside_its_card(folder: Path, photo: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    done = crowdseg(folder, "export", "runs/seg/small", "--out", "onnx/crowd.onnx")
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (folder / "onnx").iterdir()) == ["README.md", "crowd.onnx"]
    assert 'InferenceSession("crowd.onnx")' in (folder / "onnx/README.md").read_text()
    check_code_of_card(folder, folder / "onnx", photo)


def test_somebody_elses_readme_is_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    command = ["export", "runs/seg/small", "--format", "torchscript", "--out", tmp_path / "model.pt"]
    done = crowdseg(folder, *command)
    assert done.returncode == 2 and "--no-card" in done.stderr
    assert not (tmp_path / "model.pt").exists()
    done = crowdseg(folder, *command, "--no-card")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "README.md").read_text() == "# Mine\n" and (tmp_path / "model.pt").is_file()


def test_a_missing_package_exits_with_4(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text('raise ModuleNotFoundError("away", name="onnxruntime")\n')
    done = crowdseg(folder, "export", "runs/seg/small", PYTHONPATH=str(tmp_path))
    assert done.returncode == 4
    assert "pip install 'crowdseg[onnx]'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["nowhere"], 2, "nowhere is not a run"),
        (["runs/seg/small", "--format", "tflite"], 2, "tflite"),
        (["runs/seg/small", "--format", "torchscript", "--out", "runs"], 2, "runs is a folder"),
        (["runs/seg/small", "--format", "torchscript", "--out", "/proc/model.pt", "--no-card"], 1, "/proc/model.pt"),
    ],
)
def test_bad_requests(folder: Path, arguments: list[str], code: int, named: str) -> None:
    done = crowdseg(folder, "export", *arguments)
    assert done.returncode == code
    assert named in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def test_damaged_weights_exit_with_1(folder: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "weights.json"):
        (tmp_path / name).write_bytes((folder / "runs/seg/small" / name).read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"cut off")
    done = crowdseg(folder, "export", tmp_path, "--format", "torchscript")
    assert done.returncode == 1
    assert "weights.safetensors" in done.stderr and "Traceback" not in done.stderr
