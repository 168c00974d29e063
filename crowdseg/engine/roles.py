"""What became of a person whom a model found, or did not."""

from __future__ import annotations

from enum import IntEnum


class Role(IntEnum):
    """``found`` where nothing says what is true."""

    found = 0
    hit = 1
    false = 2
    missed = 3
    ignored = 4  # in a region that is left out of scoring
