"""What benchmarks share: the real data's place, a timer, and a report that is a table or JSON."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

ROOT = Path(__file__).parent.parent


def real_data(name: str) -> Path | None:
    """A folder of the real files (``CROWDSEG_REAL_DATA``, default ``../shared/data``), or None."""
    folder = Path(os.environ.get("CROWDSEG_REAL_DATA", ROOT.parent / "shared" / "data")) / name
    return folder if folder.exists() else None


def cpu_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of ``work`` and its processor time, which other jobs on the machine disturb least."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def machine() -> dict[str, str]:
    """Where and on what a report was made."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {"commit": commit.stdout.strip() or "unknown", "cpu": platform.processor() or platform.machine()}


@dataclass
class Report:
    """Rows of named values; ``formats`` says how to print a column."""

    title: str
    columns: list[str]
    formats: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, **values: Any) -> None:
        self.rows.append(values)

    def table(self) -> Table:
        where = machine()
        table = Table(title=f"{self.title} ({where['commit']}, {where['cpu']})", title_justify="left")
        for name in self.columns:
            table.add_column(name, justify="right" if name in self.formats else "left")
        for row in self.rows:
            table.add_row(*(format(row[name], self.formats.get(name, "")) for name in self.columns))
        return table

    def as_json(self) -> dict[str, Any]:
        return {**machine(), "rows": self.rows}
