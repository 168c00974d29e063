"""Runs the benchmarks named, all of them without a name: ``bench_<name>.py`` has ``run(quick) -> Report``."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

from rich.console import Console

NAMES = sorted(file.stem.removeprefix("bench_") for file in Path(__file__).parent.glob("bench_*.py"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer inputs, in seconds rather than minutes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    reports = {}
    for name in options.names or NAMES:
        report = import_module(f"benchmarks.bench_{name}").run(quick=options.quick)
        reports[name] = report.as_json()
        if not options.json:
            Console().print(report.table())
    if options.json:
        print(json.dumps(reports, indent=2))


if __name__ == "__main__":
    main()
