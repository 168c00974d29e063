"""Semi-supervised training: how much the unlabelled half of a step counts."""

from torch import Tensor


def unlabelled_weight(
    epoch: float, *, warmup: float = 50, base: float = 0.0, rate: float = 0.01, limit: float = 2.0
) -> float:
    """Weight of the unlabelled loss at ``epoch`` (0-based): ``clip(base + rate (epoch - warmup), base, limit)``.

    The defaults are those of xmask stages 1 and 2 (section 0); stage 3 has ``warmup=0, base=0.1``.
    """
    return min(max(base + rate * (epoch - warmup), base), limit)


def semi_supervised(labelled: Tensor, unlabelled: Tensor, weight: float) -> Tensor:
    """``(labelled + weight unlabelled) / (1 + weight)``, scalars; ``weight`` at least 0."""
    return (labelled + weight * unlabelled) / (1 + weight)
