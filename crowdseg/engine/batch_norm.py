"""Batch norm over the batch of all processes, on any device (``nn.SyncBatchNorm`` is for GPUs alone)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from crowdseg.ops.precision import compute_dtype


def share_batch_norm(network: nn.Module) -> None:
    """From now on the network's batch norms learn, and normalise by, the batch of all processes.

    They stay the same modules, so the names and weights of the network do too.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose batch is that of all processes, each of which holds equally many images of the same size."""

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` of this process -> the same, normalised."""
        if not self.training:
            return super().forward(input)
        values = input.to(compute_dtype(input.dtype))
        normal, mean, variance = _Normalise.apply(values, self.weight, self.bias, self.eps)
        self._learn(mean, variance, values.numel() // len(mean) * distributed.get_world_size())
        return normal.to(input.dtype)

    def _learn(self, mean: Tensor, variance: Tensor, number: int) -> None:
        """The moving averages follow the moments ``(C,)`` of ``number`` values."""
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * number / max(number - 1, 1), momentum)


class _Normalise(torch.autograd.Function):
    """``(B, C, H, W)`` by the mean and the variance ``(C,)`` over all processes, and these two.

    The gradient is that of the sum of all processes' losses: each value has moved the moments of all.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = torch.batch_norm_update_stats(values, None, None, 0.0)  # quicker than var_mean
        whole = _mean(mean)
        # From the processes' variances and not from squares, whose difference would lose the digits of a large mean
        variance = _mean(variance + (mean - whole).square())
        ctx.save_for_backward(values, weight, whole, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(whole, variance)
        return functional.batch_norm(values, whole, variance, weight, bias, eps=eps), whole, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        values, weight, mean, inverse = ctx.saved_tensors
        # of this process's values: the sums of gradient times normalised value, and of the gradient
        _, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, weight, None, None, mean, inverse, True, 0.0, [False, True, True]
        )
        slope, level = _mean(torch.stack([to_weight, to_bias]) * (len(mean) / values.numel()))
        # weight inverse (gradient - level - slope normalised), as one straight line over gradient and value
        slope = slope * inverse
        flat = torch.addcmul((slope * mean - level)[:, None, None], values, slope[:, None, None], value=-1)
        return (gradient + flat).mul_((weight * inverse)[:, None, None]), to_weight, to_bias, None


def _mean(values: Tensor) -> Tensor:
    """The mean over all processes, in each of them."""
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
