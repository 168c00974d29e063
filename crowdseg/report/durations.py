"""Times for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``40 s``, ``12 minutes``, ``3.5 hours`` or ``2.1 days``: in the largest unit of which there are two."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            number = seconds / size
            return f"{number:.1f} {name}" if number < 10 else f"{number:.0f} {name}"
    return f"{seconds:.0f} s"
