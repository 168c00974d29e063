"""The examples of docs/python.md and of docstrings do what they say; the site builds."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import crowdseg.structures

ROOT = Path(__file__).parents[1]


def test_the_page_runs_line_by_line(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert done.attempted > 15 and done.failed == 0


def test_examples_of_docstrings_run() -> None:
    done = doctest.testmod(crowdseg.structures)
    assert done.attempted > 5 and done.failed == 0


def test_the_site_builds_without_a_warning(tmp_path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "python" / "index.html").read_text()
    assert 'id="crowdseg.engine.model.Model.predict"' in page
