"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Crowd:
    """A tiny synthetic crowd with prepared masks."""

    data: Path
    masks: Path


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    from crowdseg.data.synthetic import write_synthetic
    from crowdseg.masks import prep_masks

    folder = tmp_path_factory.mktemp("crowd")
    write_synthetic(folder / "data", 12, (3, 9), (96, 128), seed=5)
    prep_masks(folder / "data", folder / "masks", workers=1)
    return Crowd(folder / "data", folder / "masks")
