"""Saving what was measured: a JSON file for each device and day, and the plots that the documentation shows."""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import accuracy_plot, plot
from benchmarks.common import ROOT

FOLDER = ROOT / "benchmarks" / "results"


def save(document: dict[str, Any]) -> Path:
    """Writes ``benchmarks/results/<device>-<date>.json``, its name with that of a benchmark that was run alone, and the
    plots whose panels were all measured."""
    device = re.sub(r"\W+", "-", document["machine"]["device"].lower()).strip("-")
    names = list(document["benchmarks"])
    stem = "-".join([device, str(datetime.date.today()), *(names if len(names) == 1 else [])])
    file = FOLDER / f"{stem}.json"
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
    written = [file]
    if all(panel.benchmark in document["benchmarks"] for panel in plot.PANELS):
        written.append(plot.draw(file))
    if "accuracy" in document["benchmarks"]:
        written.append(accuracy_plot.draw(file))
    print(f"wrote {', '.join(str(path.relative_to(ROOT)) for path in written)}", file=sys.stderr)
    return file
