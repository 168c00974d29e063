"""``crowdseg prep-masks`` as a user meets it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "crowdseg", "prep-masks", *map(str, arguments)]


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=folder)


def write_set(folder: Path, images: int, size: tuple[int, int] = (60, 80)) -> Path:
    (folder / "data" / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    rows = ["image,x,y"]
    for number in range(images):
        pixels = generator.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "data" / "images" / f"{number}.png")
        rows += [f"images/{number}.png,{x},{y}" for x, y in ((10, 10), (30, 40), (60, 20))]
    (folder / "data" / "points.csv").write_text("\n".join(rows) + "\n")
    return folder / "data"


def test_a_run_and_a_rerun(tmp_path):
    data = write_set(tmp_path, 3)
    first = run(tmp_path, data, "--preview", 1, "--workers", 1)
    assert first.returncode == 0, first.stderr
    rows = dict(line.split("  ", 1) for line in first.stdout.splitlines())
    assert rows["images"].strip() == "3" and rows["people"].strip() == "9"
    assert rows["masks"].strip() == "runs/masks/data" and rows["previews"].strip() == "runs/masks/data/previews"
    assert "train: 3 images, 9 points" in first.stderr and "no SAM weights" in first.stderr
    assert len(list((tmp_path / "runs/masks/data/previews").iterdir())) == 1
    again = run(tmp_path, data)
    assert again.returncode == 0 and "3 (3 from an earlier run)" in again.stdout
    (data / "points.csv").write_text((data / "points.csv").read_text() + "images/0.png,70,50\n")
    changed = run(tmp_path, data)
    assert "1 of them anew" in changed.stderr and "3 (2 from an earlier run)" in changed.stdout


def test_a_broken_image_is_named_and_the_exit_code_says_so(tmp_path):
    data = write_set(tmp_path, 3)
    image = data / "images" / "1.png"
    image.write_bytes(image.read_bytes()[:400])
    result = run(tmp_path, data, "--out", "masks", "--workers", 1)
    assert result.returncode == 3
    assert str(image) in result.stderr and "1 of 3 images failed" in result.stderr
    assert sorted(path.name for path in (tmp_path / "masks/labels/images").iterdir()) == ["0.png", "2.png"]


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--sam-checkpoint", "absent.pth", "--sam-model", "vit_h"], 4, "sam_vit_h_4b8939.pth"),
        (["--out", "data/images/masks"], 2, "choose another --out"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path, options, code, text):
    result = run(tmp_path, write_set(tmp_path, 1), *options)
    assert result.returncode == code and text in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def interrupted(folder: Path, arguments: list[object], ready: Callable[[], bool]) -> tuple[int, str]:
    """Exit code and stderr of prep-masks after a Ctrl-C when it is ready for it."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs in the background inherit deafness
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not ready():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def starting(folder: Path) -> int:
    """Processes of multiprocessing in the folder that Ctrl-C would stop with a traceback: Python is up, and imports."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or not ours
            if b"spawn_main" in (process / "cmdline").read_bytes() and (process / "cwd").resolve() == folder:
                caught = re.search(r"SigCgt:\s*(\w+)", (process / "status").read_text())
                found += bool(int(caught[1], 16) >> signal.SIGINT - 1 & 1)
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes where Linux lists them")
def test_ctrl_c_while_the_processes_start(tmp_path):
    data = write_set(tmp_path, 24, (300, 400))
    code, errors = interrupted(tmp_path, [data, "--workers", 2], lambda: starting(tmp_path) > 0)
    assert code == 130 and "Traceback" not in errors and "Stopped." in errors
    assert not list((tmp_path / "runs").rglob(".*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_is_finished(tmp_path, workers):
    data = write_set(tmp_path, 24, (300, 400))
    records = tmp_path / "runs/masks/data/records/images"
    code, errors = interrupted(tmp_path, [data, "--workers", workers], lambda: any(records.glob("[0-9]*.json")))
    assert code == 130 and "Traceback" not in errors and "Stopped." in errors
    finished = len(list(records.glob("[0-9]*.json")))
    assert 0 < finished < 24
    assert not list((tmp_path / "runs").rglob(".*"))  # nothing half-written
    for path in (tmp_path / "runs").rglob("*.png"):
        Image.open(path).load()
    again = run(tmp_path, data, "--workers", 1)
    assert again.returncode == 0 and f"24 ({finished} from an earlier run)" in again.stdout
