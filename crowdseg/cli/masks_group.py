"""``crowdseg masks``: what can be done with prepared masks. Each module adds its commands to the group."""

from __future__ import annotations

from importlib import import_module

import typer

masks = typer.Typer(no_args_is_help=True, help="Look at prepared masks, hand them to other tools, take them back.")

# The order is the order of `crowdseg masks --help`.
COMMANDS = ("masks_report", "masks_files")


def register(app: typer.Typer) -> None:
    """Add the group."""
    for name in COMMANDS:
        import_module(f"crowdseg.cli.{name}").register(masks)
    app.add_typer(masks, name="masks")
