"""Writers of small datasets in their official layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("data", deadline=None)  # first calls import scipy, and machines are shared
settings.load_profile("data")


@pytest.fixture
def photograph() -> Callable[..., Path]:
    """``photograph(path, size=(H, W), **save)``: write a noise image, making its folders."""

    def write(path: Path, size: tuple[int, int] = (40, 60), **save: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(path.name)).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path, **save)
        return path

    return write
