"""Devices, precision and processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from crowdseg.errors import CrowdsegError, SetupError, UsageError

T = TypeVar("T")


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` (CUDA, else Apple's MPS, else CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        UsageError: no such name. SetupError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device `{name}`: use auto, cpu, cuda or mps.") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise SetupError(f"The device `{name}` is not available here: use --device auto.")
    return device


def autocast(device: torch.device, amp: bool) -> AbstractContextManager[object]:
    """bfloat16 autocast where asked for; bfloat16 needs no loss scaling."""
    if not amp:
        return nullcontext()
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise SetupError("This GPU has no bfloat16: run without --amp.")
    return torch.autocast(device.type, torch.bfloat16)


@dataclass(frozen=True)
class Processes:
    """This process among those that ``torchrun`` started."""

    rank: int = 0
    world: int = 1
    group: Any = None  # for words between the hosts, whatever the gradients go by

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def agree(self, decide: Callable[[], T]) -> T:
        """What the first process decides, in every process; an error of ours too, for else the others would wait."""
        if self.world == 1:
            return decide()
        decided: list[Any] = [None, None]
        try:
            decided[0] = decide() if self.is_first else None
        except CrowdsegError as error:
            decided[1] = error
        torch.distributed.broadcast_object_list(decided, src=0)
        if decided[1] is not None:
            raise decided[1]
        return decided[0]  # type: ignore[no-any-return]

    def any(self, here: bool) -> bool:
        """Whether it is so in any process. Waits for all of them, and for no device."""
        if self.world == 1:
            return here
        flag = torch.tensor(int(here))
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, self.group)
        return bool(flag)

    def mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The means over the processes of scalars, in every process; all have the same names."""
        if self.world == 1:
            return values
        table = torch.stack(list(values.values()))
        torch.distributed.all_reduce(table)
        return dict(zip(values, (table / self.world).unbind(), strict=True))

    def leave(self) -> None:
        """Wait for the others and end the group."""
        if self.world > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


def processes_started() -> int:
    """How many processes ``torchrun`` started, this one among them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(device: torch.device) -> tuple[Processes, torch.device]:
    """Join the group of ``torchrun`` (gloo on the CPU, nccl on GPUs) and take this process's own GPU."""
    world = processes_started()
    if world == 1:
        return Processes(), device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(torch.distributed.get_rank(), world, torch.distributed.new_group(backend="gloo")), device
