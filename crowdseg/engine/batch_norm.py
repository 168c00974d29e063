"""Batch norm over the batch of all processes, on any device (``nn.SyncBatchNorm`` is for GPUs alone)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

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
        mean, variance = _moments(values)
        self._learn(mean.detach(), variance.detach(), values.numel() // len(mean) * distributed.get_world_size())
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], values, scale[:, None, None]).to(input.dtype)

    def _learn(self, mean: Tensor, variance: Tensor, number: int) -> None:
        """The moving averages follow the moments ``(C,)`` of ``number`` values."""
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * number / max(number - 1, 1), momentum)


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance ``(C,)`` over all processes."""
    variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)
    whole = _Mean.apply(mean)
    # From the processes' own variances and not from squares, whose difference would lose the digits of a large mean
    return whole, _Mean.apply(variance + (mean - whole).square())


class _Mean(torch.autograd.Function):
    """The mean over all processes, in each of them; its gradient is the mean of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _mean(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _mean(gradient)


def _mean(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
