"""How sure a figure is: bootstrap intervals over images, and paired tests of two systems on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crowdseg.metrics.matching import ratio

RESAMPLES, LEVEL = 2000, 0.95
AT_ONCE = 4_000_000  # entries of a block of resamples


@dataclass(frozen=True)
class Statistic:
    """A figure as the images make it up: the sum of their ``parts`` over the sum of their ``wholes``.

    A mean over images has wholes of 1; an image that does not enter has 0 for both.

    Attributes:
        parts, wholes: ``(n,)`` float64, one per image.
        root: the figure is the root of that (RMSE).
    """

    parts: np.ndarray
    wholes: np.ndarray
    root: bool = False

    @property
    def value(self) -> float | None:
        """The figure over all images; None where it is not defined."""
        value = ratio(float(self.parts.sum()), float(self.wholes.sum()))
        return value if value is None or not self.root else float(np.sqrt(value))

    def of_sums(self, parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
        """The figure of summed parts and wholes; NaN where it is not defined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(wholes == 0, np.nan, parts / wholes)
        return np.sqrt(value) if self.root else value

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """``(R,)`` the figure where image i is there ``weights[r, i]`` times; NaN where it is not defined."""
        return self.of_sums(weights @ self.parts, weights @ self.wholes)


@dataclass(frozen=True)
class Interval:
    """Where a figure lies with the probability :data:`LEVEL`, as far as the choice of images decides it."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A figure of two systems on the same images.

    Attributes:
        first, second: the figure of each; None where it is not defined.
        difference: second - first; None where either is not defined.
        interval: of the difference, by bootstrap over images; None where it is not defined.
        p: how often systems that are equally good would differ at least so much, by swapping which system made which
            image's result; None where the difference is not defined, or nothing was resampled.
    """

    first: float | None
    second: float | None
    difference: float | None
    interval: Interval | None
    p: float | None


def bootstrap(
    statistics: dict[str, Statistic], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval | None]:
    """Percentile intervals by drawing as many images as there are, with replacement, ``resamples`` times.

    All statistics see the same draws. None for fewer than two images that enter the figure; draws in which a figure is
    not defined are left out.
    """
    drawn = {name: [np.zeros(0)] for name in statistics}
    for weights in _draws(_number(statistics), resamples, seed):
        for name, statistic in statistics.items():
            drawn[name].append(statistic.weighted(weights))
    return {
        name: _interval(np.concatenate(drawn[name])) if np.count_nonzero(statistic.wholes) > 1 else None
        for name, statistic in statistics.items()
    }


def compare(
    first: dict[str, Statistic], second: dict[str, Statistic], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """What distinguishes two systems, for every statistic that both have over the same n images in the same order.

    The interval draws images with replacement, the same for both systems. The test is the paired randomisation test:
    image by image the two results change places or do not, which makes no difference to systems that are equally good;
    p is the share of such swaps, that which took place included, after which the systems differ at least as much. With
    few images (no more than :data:`RESAMPLES` or ``resamples`` swaps) all 2^n are tried, else ``resamples`` random
    ones, which give no p below 1 / (``resamples`` + 1). With 0 ``resamples`` there is neither interval nor p.
    """
    pairs = {name: (first[name], second[name]) for name in first if name in second}
    apart = {name: [np.zeros(0)] for name in pairs}
    for weights in _draws(_number(first), resamples, seed):
        for name, (a, b) in pairs.items():
            apart[name].append(b.weighted(weights) - a.weighted(weights))
    swapped = _swapped(pairs, resamples, seed)
    return {name: _difference(*pairs[name], np.concatenate(apart[name]), swapped[name]) for name in pairs}


def _number(statistics: dict[str, Statistic]) -> int:
    return max((len(statistic.parts) for statistic in statistics.values()), default=0)


def _blocks(number: int, resamples: int) -> Iterator[int]:
    """Sizes of blocks that add up to ``resamples``, small enough for memory."""
    size = max(AT_ONCE // max(number, 1), 1)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _draws(number: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """``(R, n)`` how often each image was drawn, in blocks."""
    random = np.random.default_rng(seed)
    for size in _blocks(number, resamples if number else 0):
        yield random.multinomial(number, np.full(number, 1 / number), size).astype(float)


def _swaps(number: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """``(R, n)`` 1 where an image's results change places: every way where there are few, else random ways."""
    if not resamples:
        return
    if number < 63 and 2**number <= max(resamples, RESAMPLES):
        yield ((np.arange(2**number)[:, None] >> np.arange(number)) & 1).astype(float)
        return
    random = np.random.default_rng(seed)
    yield np.zeros((1, number))  # that which took place
    for size in _blocks(number, resamples):
        yield random.integers(0, 2, (size, number)).astype(float)


def _swapped(pairs: dict[str, tuple[Statistic, Statistic]], resamples: int, seed: int) -> dict[str, np.ndarray]:
    """The differences after swaps."""
    found = {name: [np.zeros(0)] for name in pairs}
    for swaps in _swaps(_number({name: pair[0] for name, pair in pairs.items()}), resamples, seed):
        for name, (a, b) in pairs.items():
            parts, wholes = swaps @ (b.parts - a.parts), swaps @ (b.wholes - a.wholes)
            one = a.of_sums(a.parts.sum() + parts, a.wholes.sum() + wholes)
            other = b.of_sums(b.parts.sum() - parts, b.wholes.sum() - wholes)
            found[name].append(other - one)
    return {name: np.concatenate(values) for name, values in found.items()}


def _difference(first: Statistic, second: Statistic, drawn: np.ndarray, swapped: np.ndarray) -> Difference:
    a, b = first.value, second.value
    if a is None or b is None:
        return Difference(a, b, None, None, None)
    several = np.count_nonzero((first.wholes > 0) | (second.wholes > 0)) > 1
    # Sums in another order differ by their rounding; a swap after which a figure is not defined speaks for neither.
    as_much = ~(np.abs(swapped) < abs(b - a) - 1e-9 * max(abs(a), abs(b)))
    p = float(as_much.mean()) if len(swapped) else None
    return Difference(a, b, b - a, _interval(drawn) if several else None, p)


def _interval(values: np.ndarray) -> Interval | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
