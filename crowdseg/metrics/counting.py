"""Errors of counts: MAE, RMSE, NAE, bias and GAME, of all images and by how crowded they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from crowdseg.metrics.matching import ratio
from crowdseg.structures import Points, Size

GAME_LEVELS = 4  # GAME(0) to GAME(3): 1, 4, 16 and 64 cells
DENSITY_EDGES = (0, 100, 500, 5000)  # NWPU-Crowd's levels: the greatest true counts of all bins but the last


@dataclass(frozen=True)
class DensityBin:
    """Errors over the ``images`` images with ``least`` to ``most`` true people (None: any more); None without images.

    Attributes:
        true: people in these images.
        mae, rmse, nae, bias: as in :class:`CountingResult`.
    """

    least: int
    most: int | None
    images: int
    true: int
    mae: float | None
    rmse: float | None
    nae: float | None
    bias: float | None


@dataclass(frozen=True)
class CountingResult:
    """Errors of counts over ``images`` images. A value that is not defined is None.

    Attributes:
        mae: mean absolute error, in people per image.
        rmse: root of the mean squared error. The papers of this field print this very number under the name "MSE".
        nae: mean of absolute error / true count, over the ``nae_images`` images with at least one person.
        bias: mean of predicted - true: positive means too many.
        game: GAME(0) to GAME(3): at level L the image is cut into 4^L cells and the absolute errors of the cells are
            summed; over the ``game_images`` images whose predicted people have positions.
        true, predicted: people in all images together.
        by_density: the errors by true count, from nobody to the densest; each image is in one bin.
    """

    images: int
    true: int
    predicted: float
    mae: float | None
    rmse: float | None
    nae: float | None
    nae_images: int
    bias: float | None
    game: tuple[float | None, ...]
    game_images: int
    by_density: tuple[DensityBin, ...]


@dataclass
class Counting:
    """Accumulates counts image by image: ``update``, ``compute``, ``reset``.

    Attributes:
        density_edges: the greatest true count of each density bin but the last, ascending.
    """

    density_edges: tuple[int, ...] = DENSITY_EDGES

    _pairs: list[tuple[float, int]] = field(default_factory=list)
    _game: list[tuple[int, ...]] = field(default_factory=list)

    def update(
        self,
        predicted: float | Points,
        true: int | Points,
        size: Size | None = None,
    ) -> tuple[int, ...]:
        """Add one image.

        Args:
            predicted: the count, or the ``(N, 2)`` points (x, y) of the people.
            true: the same for the truth.
            size: ``(H, W)`` of the image; GAME needs it, and points on both sides.

        Returns:
            This image's summed errors of the cells, for GAME(0) to GAME(3); empty without positions.
        """
        game: tuple[int, ...] = ()
        if size is not None and isinstance(predicted, np.ndarray) and isinstance(true, np.ndarray):
            game = tuple(cell_errors(predicted, true, size, level) for level in range(GAME_LEVELS))
            self._game.append(game)
        self._pairs.append((_count(predicted), int(_count(true))))
        return game

    def compute(self) -> CountingResult:
        """The errors over all images so far."""
        predicted, true = np.asarray(self._pairs, float).reshape(-1, 2).T
        error = predicted - true
        game = np.asarray(self._game, float).reshape(-1, GAME_LEVELS)
        return CountingResult(
            images=len(error),
            true=int(true.sum()),
            predicted=float(predicted.sum()),
            **_errors(predicted, true),
            nae_images=int((true > 0).sum()),
            game=tuple(_mean(game[:, level]) for level in range(GAME_LEVELS)),
            game_images=len(game),
            by_density=tuple(self._bins(predicted, true)),
        )

    def _bins(self, predicted: np.ndarray, true: np.ndarray) -> Iterator[DensityBin]:
        inside = np.searchsorted(self.density_edges, true, side="left")
        least = [0, *(edge + 1 for edge in self.density_edges)]
        for number, (low, high) in enumerate(zip(least, [*self.density_edges, None], strict=True)):
            here = inside == number
            yield DensityBin(low, high, int(here.sum()), int(true[here].sum()), **_errors(predicted[here], true[here]))

    def reset(self) -> None:
        """Forget all images."""
        self._pairs.clear()
        self._game.clear()


def cell_errors(predicted: Points, true: Points, size: Size, level: int) -> int:
    """Sum of absolute count errors over the 2^level x 2^level cells of one image.

    Points outside the image count in the nearest cell.
    """
    side = 2**level
    difference = _cells(predicted, size, side) - _cells(true, size, side)
    return int(np.abs(difference).sum())


def _errors(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    error, crowded = predicted - true, true > 0
    square = _mean(error**2)
    return {
        "mae": _mean(np.abs(error)),
        "rmse": None if square is None else math.sqrt(square),
        "nae": _mean(np.abs(error[crowded]) / true[crowded]),
        "bias": _mean(error),
    }


def _cells(points: Points, size: Size, side: int) -> np.ndarray:
    """How many points each cell holds, ``(side * side,)`` int64."""
    height, width = size
    # Pixel centres are integers, so the image spans [-0.5, W - 0.5).
    cell = np.clip(np.floor((points + 0.5) * side / (width, height)), 0, side - 1).astype(np.int64)
    return np.bincount(cell[:, 1] * side + cell[:, 0], minlength=side * side)


def _count(people: float | Points) -> float:
    return float(len(people) if isinstance(people, np.ndarray) else people)


def _mean(values: np.ndarray) -> float | None:
    return ratio(float(values.sum()), len(values))
