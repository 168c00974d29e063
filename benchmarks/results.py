"""Saving what was measured: a JSON file for each device and day, and the plot that the README shows."""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.common import ROOT

FOLDER = ROOT / "benchmarks" / "results"


def save(document: dict[str, Any]) -> Path:
    """Writes ``benchmarks/results/<device>-<date>.json``, and the plot where all its panels were measured."""
    device = re.sub(r"\W+", "-", document["machine"]["device"].lower()).strip("-")
    file = FOLDER / f"{device}-{datetime.date.today()}.json"
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
    written = [file]
    if all(panel.benchmark in document["benchmarks"] for panel in plot.PANELS):
        written.append(plot.draw(file))
    print(f"wrote {', '.join(str(path.relative_to(ROOT)) for path in written)}", file=sys.stderr)
    return file
