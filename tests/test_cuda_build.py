"""The compiled CUDA module, on machines with and without a GPU."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

import pytest
import torch

from crowdseg import _native

spec = importlib.util.find_spec("crowdseg._cuda")
pytestmark = pytest.mark.skipif(spec is None, reason="built without nvcc")


def test_says_why_it_cannot_run_or_nothing():
    from crowdseg import _cuda

    assert _cuda.build.startswith("CUDA ")
    problem = _cuda.problem()
    if torch.cuda.is_available():
        assert problem == ""
    else:
        assert problem.startswith(f"built for {_cuda.build}, which cannot run here: ")
    assert _cuda.problem() == problem  # asking leaves nothing behind
    assert _native.KERNELS["cuda"].missing == problem


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm to list symbols")
def test_keeps_its_cuda_runtime_to_itself():
    def symbols(kind: str) -> list[str]:
        lines = subprocess.run(["nm", "-DC", kind, spec.origin], capture_output=True, text=True, check=True).stdout
        return [line.split(maxsplit=2)[-1] for line in lines.splitlines()]

    ours = ("cu", "__cuda", "crowdseg")
    assert "PyInit__cuda" in symbols("--defined-only")
    assert not [name for name in symbols("--defined-only") if name.startswith(ours)]
    assert not [name for name in symbols("--undefined-only") if name.startswith(ours)]


def test_has_the_drivers_of_the_cpu():
    from crowdseg import _cpu, _cuda

    def drivers(module: object) -> set[str]:
        return {name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))}

    assert drivers(_cuda) == drivers(_cpu) - {"isa"}
