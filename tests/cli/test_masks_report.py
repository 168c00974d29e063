"""``crowdseg masks report`` as a user meets it."""

from __future__ import annotations

import shutil
import subprocess
import sys


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crowdseg", "masks", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_page_of_the_worst(crowd, tmp_path):
    result = report(crowd.masks, "--out", tmp_path / "new/page.html", "--most", 7)
    assert result.returncode == 0, result.stderr
    rows = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert rows["people"].strip().endswith("in 12 images") and rows["shown"].strip() == "7"
    assert str(tmp_path / "new/page.html") in rows["page"]
    assert (tmp_path / "new/page.html").read_text().count('class="person"') == 7
    assert not (crowd.masks / "report.html").exists()


def test_the_page_lies_with_the_masks_unless_told(crowd, tmp_path):
    masks = shutil.copytree(crowd.masks, tmp_path / "masks")
    assert report(masks).returncode == 0
    assert (masks / "report.html").is_file()


def test_broken_files_are_named_and_the_exit_code_says_so(crowd, tmp_path):
    masks = shutil.copytree(crowd.masks, tmp_path / "masks")
    record, *_ = (masks / "records").rglob("IMG_3.json")
    record.write_text("{")
    label_map, *_ = (masks / "labels").rglob("IMG_5.png")
    label_map.write_bytes(label_map.read_bytes()[:60])
    result = report(masks)
    assert result.returncode == 3 and "Traceback" not in result.stderr
    assert str(record) in result.stderr and str(label_map) in result.stderr
    assert "2 files could not be read" in result.stderr
    assert "IMG_5" not in (masks / "report.html").read_text().split("<main>")[1]


def test_requests_that_cannot_be_met(crowd, tmp_path):
    for arguments, code, text in [
        ((tmp_path,), 2, "holds no prepared masks"),
        ((crowd.masks, "--data", tmp_path / "absent"), 2, "is not there: name it with --data"),
        ((crowd.masks, "--out", f"{__file__}/page.html"), 1, "Cannot write"),
        ((crowd.masks, "--most", 0), 2, "--most"),
    ]:
        result = report(*arguments)
        assert result.returncode == code and text in result.stderr and "Traceback" not in result.stderr
