"""The two consoles and the progress bar: results go to stdout, everything else to stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

out = Console(soft_wrap=True)  # results
err = Console(stderr=True, soft_wrap=True)  # progress, notes and errors


def progress(*extra_columns: object) -> Progress:
    """A progress bar on stderr that shows nothing when stderr is not a terminal. Use as a context manager."""
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *extra_columns,  # type: ignore[arg-type]
        console=err,
        disable=not err.is_terminal,
    )
