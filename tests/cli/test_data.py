from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from crowdseg.data import load_dataset
from crowdseg.report.dataset import print_dataset


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crowdseg", "data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "set"
    result = run("synth", out, "--images", 4, "--people", "3-9", "--size", "64x96", "--seed", 2, "--workers", 1)
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture
def table(tmp_path) -> Path:
    """30 images and a points.csv with a far point each."""
    for number in range(30):
        Image.new("RGB", (60, 40)).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number},1,1\n{number},500,1\n" for number in range(30))
    (tmp_path / "points.csv").write_text("image,x,y\n" + rows)
    return tmp_path


def test_synth_writes_what_was_asked(synthetic):
    dataset = load_dataset(synthetic)
    assert [sample.size for sample in dataset.samples] == [(64, 96)] * 4
    assert all(3 <= sample.count <= 9 and sample.masks for sample in dataset.samples)


def test_check_says_what_is_there(synthetic):
    result = run("check", synthetic)
    assert result.returncode == 0 and result.stderr == ""
    assert "ShanghaiTech in" in result.stdout and "No defects." in result.stdout
    assert [line.split("│")[1:4] for line in result.stdout.splitlines() if "train" in line] == [
        [" train ", "      3 ", "          3 "]
    ]


def test_warnings_are_listed_up_to_twenty_and_do_not_fail(table):
    result = run("check", table)
    assert result.returncode == 0
    assert "0.png: 1 point outside the image, dropped" in result.stdout and "... and 10 more" in result.stdout
    assert result.stdout.count("dropped") == 20


def test_broken_files_exit_with_3(table):
    (table / "7.png").write_bytes(b"no image")
    result = run("check", table)
    assert result.returncode == 3
    assert "7.png is not a readable image" in result.stdout and result.stderr.startswith("crowdseg: ")


def test_damaged_pixels_are_found_on_request(synthetic, tmp_path):
    shutil.copytree(synthetic, tmp_path / "set")
    image = load_dataset(tmp_path / "set").samples[0].image
    image.write_bytes(image.read_bytes()[:1500])
    assert run("check", tmp_path / "set").returncode == 0
    result = run("check", tmp_path / "set", "--decode")
    assert result.returncode == 3 and image.name in result.stdout


def test_json_lists_every_defect(table):
    (table / "7.png").write_bytes(b"no image")
    result = run("check", table, "--json")
    content = json.loads(result.stdout)
    assert result.returncode == 3 and content["format"] == "images and points.csv"
    assert content["splits"] == [
        {
            "split": "train",
            "images": 29,
            "annotated": 29,
            "masked": 0,
            "points": 29,
            "lowest": 1,
            "median": 1,
            "highest": 1,
        }
    ]
    assert len(content["defects"]) == 30 and content["fingerprint"] == load_dataset(table).fingerprint()


def test_the_short_form_goes_to_stderr(table, capsys):
    print_dataset(load_dataset(table))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "30 images, 30 points (1 to 1 per image" in captured.err and "30 defects" in captured.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("check", "/nowhere"), "/nowhere is not there"),
        (("synth", "{}/x", "--people", "many"), "--people"),
        (("synth", "{}/x", "--size", "12"), "pixels a side"),
        (("synth", "{}/x", "--size", "a4"), "--size"),
    ],
)
def test_wrong_requests_are_one_sentence_and_exit_2(tmp_path, arguments, word):
    result = run(*(text.format(tmp_path) for text in arguments))
    assert result.returncode == 2 and word in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
