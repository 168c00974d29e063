"""``crowdseg doctor``."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("doctor")(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Say what runs here and why, and check every operator; exit 4 if something that is wanted does not work."""
    import json
    from dataclasses import asdict

    from crowdseg.diagnosis import diagnose
    from crowdseg.errors import SetupError
    from crowdseg.report.console import err, out
    from crowdseg.report.doctor import diagnosis_view

    with err.status("Running every operator"):
        diagnosis = diagnose()
    if as_json:
        typer.echo(json.dumps(asdict(diagnosis), indent=2))
    else:
        out.print(diagnosis_view(diagnosis), highlight=False)
    if diagnosis.problems:
        raise SetupError("\n  ".join(diagnosis.problems))
