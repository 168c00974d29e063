"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files (``CROWDSEG_REAL_DATA``, default ``../shared/data``); the test is skipped without it."""
    folder = Path(os.environ.get("CROWDSEG_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data here")
    return folder
