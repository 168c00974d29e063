"""``crowdseg masks export`` and ``masks import`` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crowdseg", "masks", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def rows(text: str) -> dict[str, str]:
    return {name: value.strip() for name, value in (line.split("  ", 1) for line in text.splitlines())}


def test_out_corrected_and_back(crowd, tmp_path):
    exported = run(tmp_path, "export", crowd.masks, "masks.json")
    assert exported.returncode == 0, exported.stderr
    assert rows(exported.stdout)["images"] == "12" and rows(exported.stdout)["file"] == "masks.json"
    document = json.loads((tmp_path / "masks.json").read_text())
    assert rows(exported.stdout)["masks"] == str(len(document["annotations"]))
    first = document["annotations"][0]
    name = next(each["file_name"] for each in document["images"] if each["id"] == first["image_id"])
    first["segmentation"] = []  # rubbed out
    document["images"].append({"id": 99, "file_name": "gone.jpg", "height": 4, "width": 4})
    (tmp_path / "masks.json").write_text(json.dumps(document))
    imported = run(tmp_path, "import", "masks.json", crowd.data)
    assert imported.returncode == 3
    assert rows(imported.stdout)["images"] == "12" and rows(imported.stdout)["masks"] == "runs/masks/data"
    assert "No mask came for 1 person" in imported.stderr
    assert "gone.jpg is not among the annotated images" in imported.stderr and "has 1 defect" in imported.stderr
    record = json.loads((tmp_path / "runs/masks/data/records" / name).with_suffix(".json").read_text())
    assert record["settings"] == "imported" and record["people"][0]["area"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export", "absent", "out.json"], "absent holds no prepared masks"),
        (["import", "absent.json", "."], "No dataset recognised"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path, arguments, sentence):
    result = run(tmp_path, *arguments)
    assert result.returncode == 2 and sentence in result.stderr and "Traceback" not in result.stderr
