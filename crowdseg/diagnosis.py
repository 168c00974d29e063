"""What runs here and why: versions, devices, kernels, threads, and whether every operator gives the right results."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

import crowdseg
from crowdseg._native import KERNELS, backend
from crowdseg.errors import SetupError
from crowdseg.ops.selfcheck import self_check

# What decides threads, kernels and where weights are kept; from the environment.
VARIABLES = (
    "CROWDSEG_OPS", "CROWDSEG_ISA", "CROWDSEG_HOME", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
REINSTALL = "`pip install --verbose --force-reinstall --no-deps .` in the folder of crowdseg's source"


@dataclass(frozen=True)
class Device:
    """A device, what the operators run on it, and whether that works."""

    name: str  # as torch has it: cpu, cuda:0
    model: str
    backend: str  # native or torch; empty where CROWDSEG_OPS asks for what is not there
    kernels: str  # what was built, or why there is nothing
    checks: dict[str, dict[str, str]]  # backend -> operator -> what is wrong, empty where nothing is


@dataclass(frozen=True)
class Diagnosis:
    """All that ``crowdseg doctor`` knows."""

    versions: dict[str, str | None]  # None where a package is missing
    devices: list[Device]
    settings: dict[str, str | int | None]  # threads, instructions, variables of the environment; None where not set
    problems: list[str]  # what is asked for and does not work
    advice: list[str]  # how to get what is not there


def diagnose() -> Diagnosis:
    """Look at everything and run every operator.

    Raises:
        UsageError: ``CROWDSEG_OPS`` names no backend.
    """
    problems: list[str] = []
    devices = [_device(name, model, problems) for name, model in _present().items()]
    advice = _cpu_advice() + _cuda_advice(present=torch.cuda.is_available())
    if not torch.cuda.is_available():
        devices.append(Device("cuda", f"none ({_why_no_cuda()})", "", _kernels("cuda"), {}))
    return Diagnosis(_versions(), devices, _settings(), problems, advice)


def _present() -> dict[str, str]:
    """Name -> model of each device."""
    gpus = {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    return {"cpu": _processor(), **gpus, **({"mps": "Apple GPU"} if torch.backends.mps.is_available() else {})}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    return "torch sees no GPU" if _driver() else "no NVIDIA driver"


def _device(name: str, model: str, problems: list[str]) -> Device:
    kind = torch.device(name).type
    try:
        chosen = backend(kind)
    except SetupError as error:
        problems.append(str(error))
        chosen = ""
    there = kind in KERNELS and not KERNELS[kind].missing
    checks = {each: self_check(name, each) for each in (("torch", "native") if there else ("torch",))}
    for each, results in checks.items():
        problems += [f"{operator} ({each}) on {name}: {wrong}" for operator, wrong in results.items() if wrong]
    return Device(name, model, chosen, _kernels(kind), checks)


def _kernels(kind: str) -> str:
    """What was built for a kind of device, or why that does not run."""
    return "there are none" if kind not in KERNELS else KERNELS[kind].missing or KERNELS[kind].build


def _versions() -> dict[str, str | None]:
    """crowdseg, Python, all that crowdseg needs, and what a GPU needs."""
    found: dict[str, str | None] = {"crowdseg": crowdseg.__version__, "python": platform.python_version()}
    needed = [need for need in metadata.requires("crowdseg") or [] if "extra ==" not in need]
    found |= {name: _version(name) for name in (re.split(r"[^\w.-]", need)[0] for need in needed)}
    cuda = {"torch's CUDA": torch.version.cuda or "none", "NVIDIA driver": _driver() or "none"}
    return {**found, "torch": torch.__version__, **cuda}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    """The NVIDIA driver's version; None without one."""
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return output.splitlines()[0].strip() if output.strip() else None


def _settings() -> dict[str, str | int | None]:
    cpu = KERNELS["cpu"].module
    return {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "instructions of the CPU kernels": None if cpu is None else cpu.isa(),
        "instructions of torch": torch.backends.cpu.get_cpu_capability().lower(),
        **{name: os.environ.get(name) for name in VARIABLES},
    }


def _cpu_advice() -> list[str]:
    """How to get what the CPU lacks: a sentence for each thing."""
    cpu = KERNELS["cpu"]
    if cpu.missing:
        compiler = shutil.which(os.environ.get("CXX") or "c++")
        first = f"there is a compiler, {compiler}" if compiler else "install a C++ compiler (g++ or clang)"
        return [f"Kernels for the CPU: {first}; {REINSTALL} builds them and shows what stops it."]
    if "OpenMP" not in cpu.build:
        return [f"All threads for the kernels: install OpenMP (on macOS: `brew install libomp`), then {REINSTALL}."]
    return []


def _cuda_advice(present: bool) -> list[str]:
    """How to get what the GPU lacks; ``present``: torch sees one."""
    cuda = KERNELS["cuda"]
    if not present:
        without = _driver() and torch.version.cuda is None
        return (
            ["The GPU: this torch is built without CUDA; see https://pytorch.org for one with it."] if without else []
        )
    if not cuda.missing:
        return []
    if cuda.build:
        return [f"Kernels for the GPU: see docs/install.md about this: {cuda.missing}."]
    nvcc = find_nvcc()
    first = f"there is {nvcc}" if nvcc else "install the CUDA toolkit (nvcc)"
    return [f"Kernels for the GPU: {first}; {REINSTALL}, with CUDA_HOME set where nvcc is not on PATH."]


def find_nvcc() -> str | None:
    """The CUDA compiler that an installation would use, or that CUDA_HOME could name."""
    folders = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    places = [os.environ.get("CUDACXX"), "nvcc", *(f"{folder}/bin/nvcc" for folder in folders if folder)]
    return next((found for place in places if place and (found := shutil.which(place))), None)
