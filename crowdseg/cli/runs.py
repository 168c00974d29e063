"""``crowdseg runs`` and ``crowdseg runs compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_app = typer.Typer(help="List trained runs with their scores, or compare some.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(_app, name="runs")


@_app.callback()
def runs(
    context: typer.Context,
    under: Annotated[
        Path | None, typer.Option(help="Folder to look under. Default: ./runs.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List trained runs, the last changed first: settings, state, scores on validation and test images."""
    if context.invoked_subcommand is not None:
        return _refuse_list_options(under, as_json)
    import json

    from crowdseg import files
    from crowdseg.engine.runs import find_runs
    from crowdseg.errors import PartialFailure
    from crowdseg.report.runs import print_runs, runs_json

    found, damaged = find_runs(under or files.RUNS)
    if as_json:
        typer.echo(json.dumps(runs_json(found), indent=2))
    elif found:
        print_runs(found)
    if damaged:
        reasons = "".join(f"\n  {error}" for error in damaged)
        raise PartialFailure(f"{len(damaged)} run{'s' * (len(damaged) > 1)} could not be read:{reasons}")


def _refuse_list_options(under: Path | None, as_json: bool) -> None:
    from crowdseg.errors import UsageError

    if under is not None or as_json:
        raise UsageError("--under and --json are for the list: `crowdseg runs compare` takes the runs' folders.")


@_app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two runs or more.")],
    out: Annotated[Path, typer.Option(help="Picture of the curves to write.")] = Path("compare.png"),
) -> None:
    """Lay runs side by side: settings that differ, scores, and a picture of their curves."""
    from crowdseg.engine.runs import compare_runs
    from crowdseg.report import console
    from crowdseg.report.curves import check_picture, draw_comparison
    from crowdseg.report.runs import comparison_tables

    check_picture(out)
    comparison = compare_runs(runs)
    console.out.print(comparison_tables(comparison))
    logs = {str(run.folder): run.folder / "log.csv" for run in comparison.runs}
    with console.err.status("Drawing"):
        drawn = draw_comparison(logs, out)
    said = f"Written to {out}" if drawn else "No picture was drawn: no log.csv of these runs holds curves."
    console.err.print(said, highlight=False, markup=False)
