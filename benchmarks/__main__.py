"""Runs the benchmarks named, or all but the long ones: ``bench_<name>.py`` has ``run(Options) -> Report``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import targets
from benchmarks.common import ENVIRONMENT, Options, machine
from benchmarks.results import save
from benchmarks.timing import bandwidth_roof

NAMES = sorted(file.stem.removeprefix("bench_") for file in Path(__file__).parent.glob("bench_*.py"))
LONG = {"accuracy"}  # hours: run by name only
WIDTH = 140  # of tables in a file or pipe


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all but {', '.join(LONG)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer inputs, in seconds rather than minutes")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the operators run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/ and the plot of the README")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    where = machine(options.device) | {"bandwidth_gb_per_s": round(bandwidth_roof(options.device) / 1e9, 1)}
    document: dict[str, Any] = {"machine": where, "benchmarks": {}}
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if not options.json:
        console.print(", ".join(f"{name} {value}" for name, value in where.items()))
    for name in options.names or [name for name in NAMES if name not in LONG]:
        report = import_module(f"benchmarks.bench_{name}").run(Options(options.quick, options.device))
        document["benchmarks"][name] = report.rows
        if not options.json:
            console.print(report.table())
    document["targets"] = targets.check(document["benchmarks"])
    if options.json:
        print(json.dumps(document, indent=2))
    elif document["targets"]:
        console.print(targets.table(document["targets"]))
    if options.save:
        save(document)


def in_environment() -> None:
    """Starts this process again where the environment that times are taken under is not set: it counts at the start."""
    if lacking := {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}:
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | lacking)


if __name__ == "__main__":
    in_environment()
    main()
