"""The command line: parse, call the API, hand the result to ``report``. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from crowdseg.errors import DISK_FULL, CrowdsegError, Interrupted


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Ctrl-C as one of our errors: typer would leave without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(
                "Stopped. What is finished is kept: run the same command again to go on (training: with --resume "
                "in place of dataset and settings)."
            ) from None


app = typer.Typer(
    name="crowdseg",
    cls=_Group,
    help="From one point per head to instance masks, segmenters and counters of crowds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Each module adds its commands to the app; the order is the order of `crowdseg --help`.
COMMANDS = ("masks", "masks_group", "train", "runs", "evaluate", "predict", "export", "data", "demo", "doctor")
for _name in COMMANDS:
    import_module(f"crowdseg.cli.{_name}").register(app)


def main() -> None:
    """Run the command line; errors become one sentence on stderr and an exit code (see :mod:`crowdseg.errors`)."""
    # Before torch is imported: threads that spin at barriers make everything up to 100 times slower beside another busy
    # process; waiting passively costs a fraction of a millisecond per call.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except CrowdsegError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        _say(f"The results cannot be printed: {error.strerror}. Free some space and run again.")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try once more at its end
        sys.exit(1)


def _say(message: str) -> None:
    from rich.markup import escape

    from crowdseg.report.console import err

    err.print(f"[bold red]crowdseg:[/] {escape(message)}", highlight=False)
