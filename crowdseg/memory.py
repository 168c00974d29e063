"""How much memory the machine and this process have, how amounts are written, what becomes of freed memory."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

from crowdseg.errors import UsageError

LARGE = 1 << 25  # bytes of an image after whose work memory goes back to the system, rather than stay for the next one
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_UNKNOWN = 8 * 2**30  # taken for free where the system does not say
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt


def parse_memory(text: str) -> int:
    """Bytes of ``3GB``, ``1.5G``, ``800MiB``; a GB has 2^30 bytes.

    Raises:
        UsageError: it is no amount of memory.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise UsageError(f"`{text}` is no amount of memory: write 3GB or 800MB.")
    return int(float(found[1]) * UNITS[found[2].upper()])


def show_memory(amount: int) -> str:
    """Bytes for people, rounded up in the last digit: what is shown is enough."""
    tenths = -(-amount * 10 // 2**30)
    return f"{tenths / 10:.1f} GB" if tenths < 100 else f"{-(-tenths // 10)} GB"


def free_memory() -> int:
    """Bytes that this process can take: free on the machine, and within the limit of its container."""
    return min([_free_on_machine(), *_container_limits()])


def resident_memory() -> int:
    """Bytes that this process holds; where the system does not say, the most it has held, or 0."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not Linux
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


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


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for the rest of its life (glibc; elsewhere nothing happens).

    By default the large temporaries of every step go back to the system and come again zeroed, page by page: up to
    half of the time of a step on the CPU.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Give what this process has freed back to the system (glibc; elsewhere nothing happens)."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
