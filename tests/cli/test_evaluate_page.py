"""The page that ``crowdseg eval`` writes; what is on it and does what is tested in tests/report."""

import json
import re
from pathlib import Path

import pytest

from crowdseg import cli
from crowdseg.data import load_dataset


@pytest.fixture
def evaluated(crowd, capsys, monkeypatch, tmp_path):
    """Scores a CSV of predictions on the test images of the synthetic crowd; gives the page's text and its data."""
    monkeypatch.chdir(tmp_path)

    def evaluate(lines: list[str], *options: str, data: Path = crowd.data) -> tuple[str, dict]:
        Path("tool.csv").write_text("\n".join(lines))
        arguments = ["eval", "--predictions", "tool.csv", "--data", str(data), "--out", "there", "--resamples", "50"]
        monkeypatch.setattr("sys.argv", ["crowdseg", *arguments, *options])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert not done.value.code, capsys.readouterr().err
        page = Path("there/page.html")
        text = page.read_text() if page.exists() else ""
        return text, json.loads(re.search(r'id="data">(.*?)</script>', text)[1]) if text else {}

    return evaluate


@pytest.fixture
def samples(crowd):
    return load_dataset(crowd.data).split("test")


def points_of(samples) -> list[str]:
    """Everyone but the first of each image, and one in the corner of the first image."""
    lines = [f"{sample.key},{x},{y}" for sample in samples for x, y in sample.points[1:]]
    return ["image,x,y", *lines, f"{samples[0].key},1,1"]


def test_the_page_has_all_images_and_figures(evaluated, samples):
    text, data = evaluated(points_of(samples))
    rows = {row["name"]: row for row in data["images"]}
    assert {name: (row["count"], row["true"]) for name, row in rows.items()} == {
        sample.key: (sample.count - (sample is not samples[0]), sample.count) for sample in samples
    }
    errors = [abs(row["count"] - row["true"]) for row in data["images"]]
    assert errors == sorted(errors, reverse=True)
    assert [dot[:2] for dot in data["dots"]] == [[rows[s.key]["true"], rows[s.key]["count"]] for s in samples]
    metrics = json.loads(Path("there/metrics.json").read_text())
    assert f"<dt>MAE</dt><dd>{metrics['counting']['mae']:.2f}</dd>" in text and "error by true count" in text
    assert f"<td>{len(samples)}</td>" in text
    true = sum(sample.count for sample in samples)
    assert f"<dt>hit · false · missed</dt><dd>{true - len(samples)} · 1 · {len(samples)}</dd>" in text
    assert 'const DISTANCE = "8 px"' in text or 'const DISTANCE = "sigma_l"' in text


def test_counts_alone_have_no_people(evaluated, samples):
    text, data = evaluated(["image,count", *(f"{sample.key},7.5" for sample in samples)])
    assert {row["count"] for row in data["images"]} == {7.5} and {row["f1"] for row in data["images"]} == {None}
    assert 'const DISTANCE = ""' in text


def test_images_that_cannot_be_read_are_named(evaluated, crowd, samples, tmp_path):
    import shutil

    shutil.copytree(crowd.data, tmp_path / "data")
    image = load_dataset(tmp_path / "data").split("test")[1].image
    lines = points_of(samples)
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])  # its size can be read, and no more
    text, data = evaluated(lines, data=tmp_path / "data")
    assert len(data["images"]) == len(samples) - 1 and str(image) in text


def test_without_a_page(evaluated, samples):
    assert evaluated(points_of(samples), "--no-page") == ("", {})
    assert Path("there/metrics.json").exists()
