"""What a segmenter gives: for every person the pixels it asks for, and how strongly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crowdseg.masks.crowd import Crowd, Window


@dataclass(frozen=True)
class Claim:
    """The pixels that one person asks for.

    Attributes:
        index: of the person, 0-based.
        window: where in the image.
        mask: ``(h, w)`` bool, the pixels asked for, inside the person's circle.
        strength: ``(h, w)`` float32; of two claims to a pixel from the same source the greater strength wins.
        source: ``"sam"``, ``"superpixel"`` or ``"disc"``.
        score: predicted IoU, or None. leakage: share of the candidate that lay outside the circle.
    """

    index: int
    window: Window
    mask: NDArray[np.bool_]
    strength: NDArray[np.float32]
    source: str
    score: float | None = None
    leakage: float = 0.0


class Segmenter(Protocol):
    """Turns an image and its points into claims, at most one per person."""

    def claims(self, image: NDArray[np.uint8], crowd: Crowd) -> Iterator[Claim]:
        """``image`` ``(H, W, 3)`` RGB. A person without a claim gets a disc."""
        ...


def part_at(mask: NDArray[np.bool_], row: int, column: int, reach: int = 0) -> NDArray[np.bool_]:
    """The 4-connected part of ``mask`` at a pixel, holes filled; all False where none comes within ``reach`` px."""
    parts, number = ndimage.label(mask)
    if number == 0:
        return mask
    near = parts[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    label = parts[row, column] or near.max(initial=0)
    return ndimage.binary_fill_holes(parts == label) if label else np.zeros_like(mask)
