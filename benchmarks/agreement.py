"""Agree before it times: what a contender gives against what the reference gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Of float32 results, relative to the whole: a sum in another order, and a bilinear reading of another form.
ROUNDING = 1e-4
# Of a gradient: a hinge that rounding closes at one of a few thousand pixels.
HINGE_ROUNDING = 2e-3


class Disagreement(AssertionError):
    """A contender's result is not the reference's."""


def near(found: Tensor, expected: Tensor, tolerance: float = ROUNDING) -> None:
    """The difference's length must be at most ``tolerance`` of the expected one's."""
    if found.shape != expected.shape:
        raise Disagreement(f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    error = float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))
    if not error <= tolerance:  # NaN too
        raise Disagreement(f"relative error {error:.2g}, above {tolerance:.0e}")


def same(found: Tensor, expected: Tensor) -> None:
    """Discrete results must be equal."""
    if not torch.equal(found, expected):
        different = int((found != expected).sum()) if found.shape == expected.shape else "all"
        raise Disagreement(f"{different} of {expected.numel()} values differ")


def same_but_for_ties(found: Tensor, expected: Tensor, cost: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Labels ``(B, H, W)`` must be equal, or as cheap within rounding.

    ``cost`` takes places (K, 3) as (image, y, x) and labels (K,), and gives (K,) float64; infinite for labels that may
    not be there, finite for the background.
    """
    if found.shape != expected.shape:
        raise Disagreement(f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    places = (found != expected).nonzero()
    mine, theirs = (cost(places, labels[tuple(places.T)].long()) for labels in (found, expected))
    worse = ((mine - theirs).abs() > 1e-5 * theirs.abs()).sum()
    if worse:
        raise Disagreement(f"{int(worse)} of {expected.numel()} labels differ beyond rounding")
