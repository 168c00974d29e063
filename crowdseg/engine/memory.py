"""Batches that do not fit into memory: in parts, and once more from the very same state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from crowdseg.errors import CrowdsegError
from crowdseg.methods import Batch, Labelled, StepResult, Unlabelled

# As PyTorch words it for CUDA and MPS, and for the CPU (on Windows, elsewhere)
SHORTAGES = ("out of memory", "not enough memory", "DefaultCPUAllocator")


class OutOfMemory(CrowdsegError):
    """Memory ran out."""


def is_shortage(error: Exception) -> bool:
    """Whether ``error`` says that memory ran out."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SHORTAGES)


@contextmanager
def shortage_as(message: str) -> Iterator[None]:
    """Raise :class:`OutOfMemory` with the message where memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise OutOfMemory(message) from error


class StateBefore:
    """What forward passes change without learning from them: batch-norm buffers and the state of random numbers."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network, device
        self.buffers = [buffer.clone() for buffer in network.buffers()]
        self.random = torch.get_rng_state()
        self.cuda_random = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        for buffer, before in zip(self.network.buffers(), self.buffers, strict=True):
            buffer.copy_(before)
        torch.set_rng_state(self.random)
        if self.cuda_random is not None:
            torch.cuda.set_rng_state(self.cuda_random, self.device)
            torch.cuda.empty_cache()  # what the failed attempt left in pieces


def micro_batches(batch: Batch, size: int) -> list[Batch]:
    """The batch in parts of ``size`` pairs, the last with what is left; whole where it is no larger."""
    pairs = len(batch.labelled.images)
    return [batch] if pairs <= size else [_part(batch, slice(first, first + size)) for first in range(0, pairs, size)]


def _part(batch: Batch, place: slice) -> Batch:
    whole, unlabelled = batch.labelled, batch.unlabelled
    inside = (whole.batch_index >= place.start) & (whole.batch_index < place.stop)
    labelled = Labelled(
        whole.images[place], whole.points[inside], whole.batch_index[inside] - place.start, whole.labels[place]
    )
    if unlabelled is None:
        return Batch(labelled, None)
    return Batch(labelled, Unlabelled(unlabelled.weak[place], unlabelled.strong[place], unlabelled.keep[place]))


def mean_result(results: Sequence[StepResult], shares: Sequence[float]) -> StepResult:
    """Loss and logs of a batch from those of its micro-batches, each with its share of the batch."""

    def mean(values: Sequence[Tensor]) -> Any:
        return sum(share * value for share, value in zip(shares, values, strict=True))

    names = results[0].logs
    logs = {name: mean([result.logs[name] for result in results]) for name in names}
    return StepResult(mean([result.loss for result in results]), logs)
