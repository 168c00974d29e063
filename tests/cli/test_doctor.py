"""``crowdseg doctor`` as installed, in processes of its own: of kernels that are there, hidden or wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crowdseg import _native

HIDDEN = "import sys; sys.modules.update({'crowdseg._cpu': None, 'crowdseg._cuda': None})"
WRONG = """
import torch, crowdseg._cpu
crowdseg._cpu.radii = lambda points, low, high, out, threads: out.fill_(7)
"""
needs_kernels = pytest.mark.skipif(bool(_native.KERNELS["cpu"].missing), reason="no kernels for the CPU here")


def doctor(*arguments: str, startup: str = "", tmp_path: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; ``startup`` is run by the new interpreter before everything else."""
    (tmp_path / "sitecustomize.py").write_text(startup)
    done = subprocess.run(
        [Path(sys.executable).parent / "crowdseg", "doctor", *arguments],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "100", **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_json_of_what_is_here(tmp_path):
    code, out, err = doctor("--json", tmp_path=tmp_path, CROWDSEG_OPS="auto", OMP_NUM_THREADS="1")
    found = json.loads(out)
    assert (code, err, found["problems"]) == (0, "", [])
    assert found["versions"]["torch"] == torch.__version__ and found["versions"]["segment-anything"]
    assert (found["settings"]["threads"], found["settings"]["CROWDSEG_OPS"]) == (1, "auto")
    cpu = found["devices"][0]
    built = _native.KERNELS["cpu"].build
    assert (cpu["name"], cpu["kernels"]) == ("cpu", built or "not built")
    assert cpu["backend"] == ("native" if built else "torch") and ("native" in cpu["checks"]) == bool(built)
    for results in cpu["checks"].values():
        assert len(results) == 6 and not any(results.values())


def test_without_kernels_it_says_how_to_get_them(tmp_path):
    code, out, _ = doctor(startup=HIDDEN, tmp_path=tmp_path, CROWDSEG_OPS="", CXX="/nowhere/c++")
    assert code == 0 and "not built" in out and "cpu native" not in out
    assert "• Kernels for the CPU: install a C++ compiler" in out and "pip install" in out


def test_native_where_there_is_none(tmp_path):
    code, out, err = doctor("--json", startup=HIDDEN, tmp_path=tmp_path, CROWDSEG_OPS="native", CXX="/bin/sh")
    assert code == 4 and "no compiled kernels for cpu: not built" in err
    found = json.loads(out)
    assert "there is a compiler, /bin/sh" in found["advice"][0]
    cpu = found["devices"][0]
    assert cpu["backend"] == "" and list(cpu["checks"]) == ["torch"] and not any(cpu["checks"]["torch"].values())


@needs_kernels
def test_wrong_kernels_are_found_whatever_is_chosen(tmp_path):
    code, out, err = doctor(startup=WRONG, tmp_path=tmp_path, CROWDSEG_OPS="torch")
    assert code == 4 and "nearest_neighbor_radii (native) on cpu: differs from the reference" in err
    row = next(line for line in out.splitlines() if "nearest_neighbor_radii" in line)
    assert [cell.strip() for cell in row.split("│")][2:4] == ["right", "wrong"]


def test_a_backend_that_is_none(tmp_path):
    code, out, err = doctor(tmp_path=tmp_path, CROWDSEG_OPS="fast")
    assert (code, out) == (2, "") and "no backend 'fast'" in err
