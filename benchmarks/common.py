"""What benchmarks share: the real data's place, the machine, and a report that is a table or JSON."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.table import Table

import crowdseg

Row = dict[str, Any]

ROOT = Path(__file__).parent.parent
# What a timed process runs under. Waiting threads sleep, as a spinning one takes the core from whoever else is there;
# glibc keeps freed memory, as torch's large temporaries otherwise cost up to three times more, in page faults.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}


class Options(NamedTuple):
    """How to run a benchmark."""

    quick: bool = False
    device: str = "cpu"


def real_data(name: str) -> Path | None:
    """A folder of the real files (``CROWDSEG_REAL_DATA``, default ``../shared/data``), or None."""
    folder = Path(os.environ.get("CROWDSEG_REAL_DATA", ROOT.parent / "shared" / "data")) / name
    return folder if folder.exists() else None


def cpu_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of ``work`` and its processor time, which other jobs on the machine disturb least."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def device_name(device: str) -> str:
    """The model of the GPU or of the processor."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where and on what figures were made."""
    return {
        "device": device_name(device),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "commit": _output("git", "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "crowdseg": crowdseg.__version__,
        "compiler": _output("c++", "--version"),
        "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
    }


def _output(*command: str) -> str:
    """The first line that a command prints, or "unknown"."""
    try:
        lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    except OSError:
        lines = []
    return lines[0] if lines else "unknown"


class Column(NamedTuple):
    """A column of a table: its head, and a row's text in it."""

    head: str
    text: Callable[[Row], str]
    justify: Literal["left", "right"] = "right"


def plain(name: str, style: str = "") -> Column:
    """The column of a row's value, a number where ``style`` says how to print it; "-" for None."""
    return Column(name, lambda row: show(row[name], style), "right" if style else "left")


def show(value: Any, style: str = "") -> str:
    return "-" if value is None else format(value, style)


@dataclass
class Report:
    """Rows of named values, and how to show them; the first column says a section's name once."""

    title: str
    columns: list[Column]
    section: Callable[[Row], Any]
    rows: list[Row] = field(default_factory=list)

    def add(self, **values: Any) -> None:
        self.rows.append(values)

    def table(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for column in self.columns:
            table.add_column(column.head, justify=column.justify)
        for _, group in groupby(self.rows, self.section):
            for index, row in enumerate(group):
                texts = [column.text(row) for column in self.columns]
                table.add_row("" if index else texts[0], *texts[1:])
            table.add_section()
        return table
