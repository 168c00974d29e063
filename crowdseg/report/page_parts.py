"""What the HTML pages share: their templates, pictures as text, histograms."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: values from ``low`` to ``high``, their number, and the height in [0, 1]."""

    low: float
    high: float
    number: int
    height: float


@dataclass(frozen=True)
class Histogram:
    """The spread of one value; ``unit`` follows numbers, ``number`` of the ``things`` (one, several) have the value."""

    name: str
    unit: str
    things: tuple[str, str]
    bars: list[Bar]
    median: float
    number: int


def template(name: str) -> Template:
    """A template of this folder; what is put into it is text unless it says that it is markup."""
    loader = PackageLoader("crowdseg.report", "")
    settings = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return settings.get_template(name)


def histogram(
    name: str,
    unit: str,
    values: NDArray[np.float64],
    edges: NDArray[np.float64],
    things: tuple[str, str] = ("person", "people"),
    *,
    whole: bool = False,
) -> Histogram | None:
    """Values beyond the edges count in the outermost bars; None where there are no values.

    Args:
        whole: values and edges are whole numbers: a bar goes to the last one before the next bar.
    """
    if not len(values):
        return None
    numbers, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    tallest = numbers.max()
    bars = [
        Bar(float(low), float(high - whole), int(number), float(number / tallest))
        for low, high, number in zip(edges[:-1], edges[1:], numbers, strict=True)
    ]
    return Histogram(name, unit, things, bars, float(np.median(values)), len(values))


def jpeg(picture: Image.Image, quality: int, subsampling: int = 0) -> str:
    """The picture as JPEG in base64; ``subsampling`` 0 keeps colours at full resolution, 2 halves it both ways."""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
    return base64.b64encode(content.getvalue()).decode()
