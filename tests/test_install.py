"""Installation: what could be built is built, a source distribution is whole, and no compiler is no obstacle."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from crowdseg._native import KERNELS

ROOT = Path(__file__).parents[1]
compiler = shutil.which(os.environ.get("CXX") or "c++")
needs_compiler = pytest.mark.skipif(not compiler, reason="no C++ compiler here")


def run(*command: object, cwd: Path, **environment: str) -> str:
    """The output; what the command said where it fails."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(source: Path, out: Path, **environment: str) -> Path:
    """A wheel of the package with kernels for the CPU, built with the packages that are here (offline)."""
    pytest.importorskip("scikit_build_core", reason="needs the extra `dev`")
    pytest.importorskip("pybind11", reason="needs the extra `dev`")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", out)
    settings = ("-C", f"build-dir={out / 'objects'}", "-C", "cmake.define.CROWDSEG_CUDA=OFF")
    run(sys.executable, "-m", "pip", "wheel", *options, *settings, source, cwd=out, **environment)
    (wheel,) = out.glob("*.whl")
    return wheel


def doctor(wheel: Path, folder: Path) -> dict:
    """What `crowdseg doctor` says of a wheel; without `site`, which would find this environment's crowdseg first."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    path = os.pathsep.join([str(folder), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    code = "import sys; sys.argv[1:] = ['doctor', '--json']; import crowdseg.cli; crowdseg.cli.main()"
    return json.loads(run(sys.executable, "-S", "-c", code, cwd=folder, PYTHONPATH=path, CROWDSEG_OPS="auto"))


@needs_compiler
def test_the_cpu_kernels_are_built():
    assert not KERNELS["cpu"].missing, "there is a compiler: `pip install -v -e .` shows what stops the build"


@pytest.mark.skipif(not (shutil.which("nvcc") or os.environ.get("CUDA_HOME")), reason="no nvcc here")
def test_the_cuda_kernels_are_built():
    assert KERNELS["cuda"].build, (
        f"there is nvcc: `pip install -v -e .` shows what stops it ({KERNELS['cuda'].missing})"
    )


def test_without_a_compiler_the_package_is_pure_python(tmp_path):
    wheel = build_wheel(ROOT, tmp_path, CC="/bin/false", CXX="/bin/false")
    assert wheel.name.endswith("-py3-none-any.whl")
    found = doctor(wheel, tmp_path / "site")
    cpu = found["devices"][0]
    assert (cpu["kernels"], cpu["backend"], list(cpu["checks"])) == ("not built", "torch", ["torch"])
    assert found["problems"] == [] and "Kernels for the CPU" in found["advice"][0]


@needs_compiler
def test_a_source_distribution_builds(tmp_path):
    pytest.importorskip("scikit_build_core", reason="needs the extra `dev`")
    code = "import sys, scikit_build_core.build as build; print(build.build_sdist(sys.argv[1]))"
    name = run(sys.executable, "-c", code, tmp_path, cwd=ROOT).splitlines()[-1]
    with tarfile.open(tmp_path / name) as archive:
        files = {member.split("/", 1)[1] for member in archive.getnames() if "/" in member}
    assert {str(file.relative_to(ROOT)) for file in (ROOT / "csrc").rglob("*.*")} <= files  # CUDA's too
    found = doctor(build_wheel(tmp_path / name, tmp_path), tmp_path / "site")
    cpu = found["devices"][0]
    assert (cpu["backend"], found["problems"]) == ("native", []) and cpu["kernels"].startswith("CPU kernels by")
