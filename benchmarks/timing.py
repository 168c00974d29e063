"""Seconds, memory and the memory's bandwidth, on the CPU and on CUDA."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

Work = Callable[[], Any]
Measure = Callable[[Work], float]

SAMPLE = 1e-2  # seconds; shorter calls are repeated within a sample
FEWEST, MOST = 3, 30  # samples of each contender
ROOF_BYTES = 1 << 28  # of one array, far more than a cache holds


class Clock(NamedTuple):
    """One way of timing: with how many threads, and the seconds that some repetitions of a work take."""

    name: str
    threads: int
    seconds: Callable[[Work, int], float]


def clocks(device: str) -> list[Clock]:
    """``cpu``: processor time of one thread, which neighbours disturb least; ``wall``: what two threads take; ``gpu``:
    CUDA events, which count the gaps between launches too."""
    if device == "cuda":
        return [Clock("gpu", torch.get_num_threads(), _event_seconds)]
    two = min(2, os.cpu_count() or 1)
    return [
        Clock("cpu", 1, lambda work, times: _counter_seconds(time.process_time, work, times)),
        Clock("wall", two, lambda work, times: _counter_seconds(time.perf_counter, work, times)),
    ]


def _counter_seconds(read: Callable[[], float], work: Work, times: int) -> float:
    start = read()
    for _ in range(times):
        work()
    return read() - start


def _event_seconds(work: Work, times: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3


def interleave(tasks: Sequence[Callable[[Measure], float]], clock: Clock, budget: float) -> list[list[float]]:
    """Samples of each task's seconds. The tasks take turns, so that a busy neighbour falls on all alike.

    A task gets a function that measures the seconds of one call of some work, and returns what it makes of them.
    ``budget`` is in seconds of this clock's whole run; no task gets fewer than ``FEWEST`` samples.
    """
    torch.set_num_threads(clock.threads)
    for task in tasks:
        task(lambda work: clock.seconds(work, 1))  # threads start, and compiled code is compiled for their number
    samples: list[list[float]] = [[] for _ in tasks]
    end = time.perf_counter() + budget
    while len(samples[0]) < FEWEST or (len(samples[0]) < MOST and time.perf_counter() < end):
        for task, values in zip(tasks, samples, strict=True):
            values.append(task(lambda work: _per_call(clock, work)))
    return samples


def _per_call(clock: Clock, work: Work) -> float:
    """Seconds of one call. Short ones follow a call that fills the caches again, which the work before them emptied."""
    once = clock.seconds(work, 1)
    if once >= SAMPLE:
        return once
    times = int(SAMPLE / max(once, 1e-6))
    return clock.seconds(work, times) / times


def knows_memory(device: str) -> bool:
    """Whether :func:`peak_megabytes` works here: CUDA tells, and Linux."""
    return device == "cuda" or sys.platform == "linux"


def peak_megabytes(work: Work, device: str) -> float:
    """Memory that a call takes beyond what is there before it, 1e6 bytes."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL(None).malloc_trim(0)  # else the call is served from what earlier ones gave back
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _resident("VmRSS")
    work()
    return (_resident("VmHWM") - before) / 1e6


def _resident(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


@cache
def bandwidth_roof(device: str) -> float:
    """Bytes per second that the memory gives one thread, or the GPU: the better of a copy and a triad."""
    torch.set_num_threads(1)
    a, b, c = (torch.zeros(ROOF_BYTES // 4, device=device) for _ in range(3))
    kernels = {2: lambda: c.copy_(a), 3: lambda: torch.add(a, b, alpha=2.0, out=c)}
    seconds = (
        _event_seconds if device == "cuda" else lambda work, times: _counter_seconds(time.process_time, work, times)
    )
    return max(arrays * ROOF_BYTES / min(seconds(kernel, 1) for _ in range(5)) for arrays, kernel in kernels.items())
