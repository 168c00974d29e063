"""Masks by a network that is asked with points and boxes (xmask section 8, steps 3 to 6).

The network stands behind :class:`PromptedModel`, so that another one is a module of its own; tiles, prompts and the
choice among its candidates are the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowdseg.masks.crowd import Crowd, Window
from crowdseg.masks.prompts import Prompts, make_prompts
from crowdseg.masks.segmenters.base import Claim, part_at
from crowdseg.masks.superpixels import patches
from crowdseg.masks.tiles import Tile, make_tiles

_CPU_BATCH = 4  # on a CPU larger batches only cost memory


@dataclass(frozen=True)
class Encoded:
    """An image as a network has encoded it.

    Attributes:
        state: whatever the network needs to answer prompts.
        cell: ``(height, width)`` of the part of the image that one logit stands for, in the image's pixels.
        shape: ``(rows, columns)`` of logits that show the image; what follows them is padding.
    """

    state: Any
    cell: tuple[float, float]
    shape: tuple[int, int]


class PromptedModel(Protocol):
    """A network that answers points and boxes with masks."""

    @property
    def side(self) -> int:
        """Pixels to which an image's longer side is scaled."""
        ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        """``image`` ``(H, W, 3)`` RGB."""
        ...

    def candidates(self, encoded: Encoded, prompts: Prompts, *, boxes: bool) -> tuple[Tensor, Tensor]:
        """K masks per prompt, asked for by the points, with ``boxes`` by the boxes too; pixels of the image.

        Returns:
            logits ``(n, K, h, w)``, positive inside a mask, and the predicted IoUs ``(n, K)``.
        """
        ...


@dataclass(frozen=True)
class Candidates:
    """What was found for a batch of people in one tile, or, without the first dimension, for one of them.

    ``logits`` ``(n, K, h, w)`` without padding; ``scores`` ``(n, K)`` predicted IoUs; ``areas`` ``(n, K)``, how many
    logits are above 0.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    areas: NDArray[np.int64]

    def of(self, row: int) -> Candidates:
        return Candidates(self.logits[row], self.scores[row], self.areas[row])


@dataclass(frozen=True)
class Grid:
    """Where logits lie in the image: ``x = tile's left + (column + 0.5) * cell width - 0.5``, y alike."""

    tile: Window
    cell: tuple[float, float]

    def read(self, logits: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """``(K, h, w)`` -> the window's pixels ``(K, rows, columns)``, bilinear; -inf outside the tile."""
        shape = logits.shape[1:]
        (rows, down), (columns, across) = (self._interpolation(axis, window[axis], shape[axis]) for axis in (0, 1))
        values = down @ logits[:, rows, columns] @ across.T
        beyond_rows, beyond_columns = (_beyond(span, tile) for span, tile in zip(window, self.tile, strict=True))
        values[:, beyond_rows] = -np.inf
        values[:, :, beyond_columns] = -np.inf
        return values

    def _interpolation(self, axis: int, span: slice, cells: int) -> tuple[slice, NDArray[np.float32]]:
        """The cells that a span of pixels lies in, and the weight of each for each pixel."""
        at = (np.arange(span.start, span.stop) - self.tile[axis].start + 0.5) / self.cell[axis] - 0.5
        at = at.clip(0, cells - 1)
        low = np.floor(at).astype(np.intp)
        used = slice(int(low[0]), min(int(low[-1]) + 2, cells))
        distance = np.abs(at[:, None] - np.arange(used.start, used.stop))
        return used, (1 - distance).clip(0).astype(np.float32)

    def area_within(self, logits: NDArray[np.float32], window: Window) -> NDArray[np.int64]:
        """Logits ``(K,)`` above 0 whose cell has its centre in the window."""
        sides = []
        for span, tile, cell in zip(window, self.tile, self.cell, strict=True):
            first, last = ((edge - tile.start) / cell - 0.5 for edge in (span.start, span.stop))
            sides.append(slice(max(0, int(np.ceil(first))), max(0, int(np.ceil(last)))))
        return np.count_nonzero(logits[:, sides[0], sides[1]] > 0, axis=(1, 2))


def _beyond(span: slice, tile: slice) -> NDArray[np.bool_]:
    at = np.arange(span.start, span.stop)
    return (at < tile.start) | (at >= tile.stop)


class PromptedSegmenter:
    """Segments with a prompted network; people whom none of its candidates fits get their superpixel."""

    def __init__(self, model: PromptedModel, *, min_containment: float = 0.3, prompt_batch: int = 64) -> None:
        self.model = model
        self.min_containment = min_containment
        self.batch = prompt_batch if model.device.type != "cpu" else min(prompt_batch, _CPU_BATCH)

    def claims(self, image: NDArray[np.uint8], crowd: Crowd) -> Iterator[Claim]:
        fallback = list(patches(image, crowd))
        prompts = make_prompts(crowd, fallback)
        pixels = np.stack(crowd.pixels, axis=1)
        for tile in make_tiles(crowd, self.model.side):
            encoded = self.model.encode(image[tile.window])
            for people in self._batches(tile):
                found = self._candidates(encoded, prompts.rows(people).inside(tile.window))
                grid = Grid(tile.window, encoded.cell)
                for row, index in enumerate(people.tolist()):
                    yield self._best(crowd, index, pixels[index], found.of(row), grid) or fallback[index]

    def _batches(self, tile: Tile) -> Iterator[NDArray[np.intp]]:
        for start in range(0, len(tile.people), self.batch):
            yield tile.people[start : start + self.batch]

    def _candidates(self, encoded: Encoded, prompts: Prompts) -> Candidates:
        """Those by points alone, then those by points and box."""
        rows, columns = encoded.shape
        found = [self.model.candidates(encoded, prompts, boxes=boxes) for boxes in (False, True)]
        logits, scores = (torch.cat(each, dim=1).float() for each in zip(*found, strict=True))
        logits = logits[:, :, :rows, :columns]
        areas = (logits > 0).sum(dim=(2, 3))  # on the device: the one step that touches every logit
        return Candidates(logits.cpu().numpy(), scores.cpu().numpy(), areas.cpu().numpy())

    def _best(self, crowd: Crowd, index: int, pixel: NDArray[np.intp], found: Candidates, grid: Grid) -> Claim | None:
        """The candidate that holds the point and has the greatest predicted IoU x containment, cut to the circle.

        ``pixel`` ``(2,)``: row and column of the point's; ``found``: of this person.
        """
        window, scores = crowd.window(index, crowd.radii[index]), found.scores
        near = grid.read(found.logits, window)
        circle = crowd.inside(index, window)
        outside = (found.areas - grid.area_within(found.logits, window)) * grid.cell[0] * grid.cell[1]
        total = (near > 0).sum(axis=(1, 2)) + outside
        containment = ((near > 0) & circle).sum(axis=(1, 2)) / np.maximum(total, 1)
        at_row, at_column = (int(each) - span.start for each, span in zip(pixel, window, strict=True))
        trusted = _touches(near, at_row, at_column) & (containment >= self.min_containment) & np.isfinite(scores)
        worth = np.where(trusted, scores * containment, -np.inf)
        best = int(worth.argmax())
        if not trusted[best]:
            return None
        mask = part_at((near[best] > 0) & circle, at_row, at_column, reach=1)
        score, leakage = float(np.clip(scores[best], 0, 1)), 1 - float(containment[best])
        return Claim(index, window, mask, near[best], "sam", score, leakage) if mask.any() else None


def _touches(near: NDArray[np.float32], row: int, column: int) -> NDArray[np.bool_]:
    """Which candidates ``(K,)`` reach the 3 x 3 pixels around a point."""
    around = near[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    return np.any(around > 0, axis=(1, 2))
