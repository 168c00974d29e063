"""Compiles the emulated CUDA kernels into an extension module, once for each state of the sources."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pybind11

ROOT = Path(__file__).parents[2]
FLAGS = [
    *["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-w"],
    "-DCROWDSEG_EMULATED",
    '-DCROWDSEG_BUILD="emulated CUDA kernels"',
    f"-include{Path(__file__).with_name('cuda_emulator.h')}",
    f"-I{ROOT / 'csrc'}",
    f"-I{pybind11.get_include()}",
    f"-I{sysconfig.get_path('include')}",
]


def compiler() -> str | None:
    """``CXX`` or g++, None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def emulated_module() -> ModuleType:
    """The module, built under ``build/emulator`` if the sources have changed.

    Raises:
        RuntimeError: the sources do not compile; the compiler's words.
    """
    drivers = sorted((ROOT / "csrc" / "cuda").glob("*.c[up]*"))
    headers = [*ROOT.glob("csrc/*.h"), *ROOT.glob("csrc/*/*.h"), Path(__file__).with_name("cuda_emulator.h")]
    state = hashlib.sha256("".join([*FLAGS, compiler() or ""]).encode())
    for path in sorted(headers) + drivers:
        state.update(path.read_bytes())
    module = ROOT / "build" / "emulator" / state.hexdigest()[:16] / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not module.exists():
        shutil.rmtree(module.parents[1], ignore_errors=True)  # of earlier states
        module.parent.mkdir(parents=True, exist_ok=True)
        _build(drivers, module)
    spec = importlib.util.spec_from_file_location("_cuda", module)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _build(sources: list[Path], module: Path) -> None:
    with tempfile.TemporaryDirectory(dir=module.parent) as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [Path(folder, source.name).with_suffix(".o") for source in sources]
        list(pool.map(lambda source, made: _compile(*FLAGS, "-c", "-xc++", source, "-o", made), sources, objects))
        linked = Path(folder, module.name)
        _compile("-shared", *objects, "-o", linked)
        linked.rename(module)  # whole or not at all, should two build at once


def _compile(*arguments: str | Path) -> None:
    run = subprocess.run([compiler() or "g++", *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the emulated kernels do not compile:\n{run.stderr}")
