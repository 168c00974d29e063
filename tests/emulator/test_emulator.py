"""The emulator finds what goes wrong on a GPU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.emulator.build import compiler

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if compiler() is None:
        pytest.skip("no C++ compiler here")
    program = tmp_path_factory.mktemp("emulator") / "faults"
    options = ["-std=c++17", "-O2", "-include", HERE / "cuda_emulator.h"]
    subprocess.run([compiler(), *options, HERE / "faults.cpp", "-o", program], check=True)
    return lambda name: subprocess.run([program, name], capture_output=True, text=True).stdout.strip()


def numbers(text):
    return [int(word) for word in text.split()]


def test_a_barrier_holds_and_its_absence_shows(run):
    expected = [(thread + 1) % 256 for thread in range(256)]
    assert numbers(run("barrier")) == expected
    found = numbers(run("no barrier"))
    assert found != expected and -1 in found


def test_shared_memory_is_wiped_for_each_block(run):
    assert numbers(run("unset")) == [-1] * 256


def test_warps_exchange_values(run):
    assert numbers(run("warp operations")) == [1] * 256


@pytest.mark.parametrize(
    "kernel, message",
    [
        ("absent", "not all threads come"),
        ("elsewhere", "threads wait in line"),
        ("absent lane", "not all threads come"),
    ],
)
def test_threads_that_do_not_meet_are_an_error(run, kernel, message):
    assert message in run(kernel)
