"""``crowdseg prep-masks`` on input that is wrong: a sentence that names it, the rest done, nothing half-written."""

from __future__ import annotations

import json
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowdseg.masks import MaskStore, memory

Result = subprocess.CompletedProcess[str]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "crowdseg", "prep-masks", *map(str, arguments)]


def run(folder: Path, *arguments: object) -> Result:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=folder)


@pytest.fixture
def photos(tmp_path) -> Callable[..., Path]:
    """``photos(**points)``: a folder of noise images by name, each with these points, and its points.csv."""

    def write(size: tuple[int, int] = (60, 80), **points: list[tuple[float, float]]) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        generator = np.random.default_rng(0)
        rows = ["image,x,y"]
        for name, listed in points.items():
            pixels = generator.integers(0, 256, (*size, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.png")
            rows += [f"{name}.png,{x},{y}" for x, y in listed]
        (folder / "points.csv").write_text("\n".join(rows) + "\n")
        return folder

    return write


def add_row(folder: Path, row: str) -> None:
    with (folder / "points.csv").open("a") as table:
        table.write(row + "\n")


def finished(masks: Path) -> set[str]:
    """Names of the images that are done; every one has a label map that agrees with its record, and nothing else is
    there: no label map without record, no temporary file."""
    labels = {path.relative_to(masks / "labels") for path in (masks / "labels").rglob("*") if path.is_file()}
    records = {path.relative_to(masks / "records") for path in (masks / "records").rglob("*") if path.is_file()}
    assert {path.with_suffix(".json") for path in labels} == records
    for path in labels:
        areas = np.bincount(np.asarray(Image.open(masks / "labels" / path)).ravel())[1:]
        people = json.loads((masks / "records" / path.with_suffix(".json")).read_text())["people"]
        assert [person["area"] for person in people][: len(areas)] == areas.tolist()
    assert MaskStore.open(masks).manifest["settings"]
    return {path.stem for path in labels}


def write_huge(file: Path) -> None:
    """A PNG that says it is 30,000 x 30,000 and holds one row."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    row = zlib.compress(bytes(1 + 3 * 30_000))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b""))


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_inputs_are_named_and_the_rest_goes_on(tmp_path, photos, workers):
    if memory.free_memory() > 120 * 2**30:
        pytest.skip("a machine that could read the large image")
    names = ("good", "truncated", "unreadable", "absent", "nan", "huge", "last")
    folder = photos(**{name: [(20, 20), (50, 30)] for name in names})
    truncate(folder / "truncated.png")
    (folder / "unreadable.png").write_text("no image")
    (folder / "absent.png").unlink()
    add_row(folder, "nan.png,nan,3")
    write_huge(folder / "huge.png")
    result = run(tmp_path, folder, "--out", "masks", "--workers", workers)
    assert result.returncode == 3 and "Traceback" not in result.stderr
    for sentence in (
        "truncated.png is not a readable image (image file is truncated). Replace or remove it.",
        "huge.png has 30,000 x 30,000 pixels: its masks take about 126 GB of memory, and",
        "unreadable.png is not a readable image (unknown format). Replace or remove it.",
        "points.csv: line 8, 9: 'absent.png' is not among the images",
        "points.csv: line 16: x and y are not numbers",
        "2 of 5 images failed and 3 defects of the dataset lose data, all else is kept: repair or remove what",
    ):
        assert sentence in result.stderr, result.stderr
    assert finished(tmp_path / "masks") == {"good", "nan", "last"}  # of nan the points that are some


def test_an_image_of_one_pixel_and_a_pile_of_points(tmp_path, photos):
    folder = photos(good=[(10, 10)], pile=[(10, 10)] * 10_000)
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    add_row(folder, "one.png,0,0")
    result = run(tmp_path, folder, "--out", "masks", "--workers", 2)
    assert result.returncode == 0, result.stderr
    assert finished(tmp_path / "masks") == {"good", "pile", "one"}
    areas = [each["area"] for each in json.loads((tmp_path / "masks/records/pile.json").read_text())["people"]]
    assert len(areas) == 10_000 and areas[0] > 0  # one of them has the pixel


# File systems of the test's own, seen by the command alone.


def in_file_system(options: str, folder: Path, script: str) -> Result:
    """Run a shell script with a file system of its own at ``folder``; the test is skipped where that is forbidden."""
    mount = ["unshare", "--mount", "sh", "-c"]
    text = f'mount -t tmpfs -o {options} none "{folder}" || exit 99; {script}'
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    result = subprocess.run([*mount, text], capture_output=True, text=True, cwd=folder.parent)
    if result.returncode in (1, 99) and ("unshare" in result.stderr or "mount" in result.stderr):
        pytest.skip(f"no file systems of our own here: {result.stderr.strip()}")
    return result


def shell(*arguments: object) -> str:
    return shlex.join(command(*arguments))


def test_a_folder_that_is_read_only(tmp_path, photos):
    folder = photos(good=[(10, 10)])
    (tmp_path / "closed").mkdir()
    result = in_file_system("ro", tmp_path / "closed", shell(folder, "--out", "closed/masks", "--workers", 1))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "Cannot write closed/masks/manifest.json: Read-only file system. Choose another folder" in result.stderr


def test_a_current_folder_that_is_read_only(tmp_path, photos):
    folder = photos(good=[(10, 10)])
    (tmp_path / "closed").mkdir()
    script = f"cd closed && {shell(folder, '--out', tmp_path / 'masks', '--workers', 1)}"
    result = in_file_system("ro", tmp_path / "closed", script)
    assert result.returncode == 0, result.stderr
    assert finished(tmp_path / "masks") == {"good"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_up(tmp_path, photos, workers):
    """The first images fit, the next one does not and ends the run; with space again only those that lack are done."""
    points = [(float(x), float(y)) for x in range(4, 396, 14) for y in range(4, 296, 14)]
    folder = photos((300, 400), **{f"p{number}": points for number in range(4)})
    (tmp_path / "small").mkdir()
    script = shell(folder, "--out", "small/masks", "--workers", workers)
    script += '; code=$?; cp -r small/masks kept; mount -o remount,size=4m "$PWD/small"; '
    script += shell(folder, "--out", "small/masks", "--workers", 1) + "; cp -r small/masks all; exit $code"
    result = in_file_system("size=200k", tmp_path / "small", script)
    assert result.returncode == 1, result.stderr
    sentence = "No space left on device. Free some space and run again. The images that were finished are kept."
    assert result.stderr.count("Cannot write") == 1 and sentence in result.stderr
    assert "Traceback" not in result.stderr
    kept = finished(tmp_path / "kept")
    assert 0 < len(kept) < 4 and not list((tmp_path / "kept").rglob(".*"))
    assert f"4 ({len(kept)} from an earlier run)" in result.stdout
    assert finished(tmp_path / "all") == {"p0", "p1", "p2", "p3"}
