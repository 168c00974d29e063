"""The records of a run, ``run.json`` and ``weights.json``, read without torch: listing runs should not wait for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crowdseg import files
from crowdseg.errors import DataError


def read_record(file: Path, *keys: str) -> dict[str, Any]:
    """The ``run.json`` or ``weights.json`` of a run; ``keys``, such as ``data.root``, are what it must hold.

    Raises:
        DataError: it is not there or damaged.
    """
    record = files.read_json(file)
    if not isinstance(record, dict):
        raise DataError(f"{file} is not the record of a run. Restore it or train again.")
    for key in keys:
        value: Any = record
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise DataError(f"{file} is damaged: it lacks `{key}`. Restore it or train again.")
            value = value[part]
    return record
