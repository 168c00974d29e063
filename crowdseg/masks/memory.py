"""Whether an image fits into memory, asked before it is read."""

from __future__ import annotations

import os
from pathlib import Path

from crowdseg.errors import DataError
from crowdseg.structures import Sample

# Beside the program itself, blobs peaked at 138 bytes per pixel (2,500 nuclei on 2000 x 3000 px; 111 with 10,000 on
# 4000 x 6000) and bodies at 70.
BYTES_PER_PIXEL = 150

_UNKNOWN = 8 * 2**30  # taken for free where the system does not say
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def memory_of(sample: Sample) -> int:
    """Bytes that making the image's masks takes."""
    height, width = sample.size
    return height * width * BYTES_PER_PIXEL


def check_memory(sample: Sample) -> None:
    """Refuse an image whose masks would take more memory than is free.

    Raises:
        DataError: it is too large; names the image, its size and both amounts.
    """
    height, width = sample.size
    need, free = memory_of(sample), free_memory()
    if need > free:
        raise DataError(
            f"{sample.image} has {width:,} x {height:,} pixels: its masks take about {need / 2**30:,.0f} GB of memory, "
            f"and {free / 2**30:,.1f} GB are free. Cut it into parts."
        )


def free_memory() -> int:
    """Bytes that this process can take: free on the machine, and within the limit of its container."""
    return min([_free_on_machine(), *_container_limits()])


def _free_on_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):  # not Linux
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN


def _container_limits() -> list[int]:
    found = []
    for file in map(Path, _LIMITS):
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return found
