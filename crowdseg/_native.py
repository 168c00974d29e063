"""The compiled kernels: the one place that knows whether they are there, and which backend the operators use."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Any

import torch  # before the kernels, so that they share its OpenMP
from torch import Tensor

from crowdseg.errors import SetupError, UsageError

BACKENDS = ("auto", "native", "torch")


class Stream:
    """Where a CUDA driver works: the current stream of a device, and temporary memory that lives as long as this."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.index = device.index
        self.handle = torch.cuda.current_stream(device).cuda_stream
        self._memory: list[Tensor] = []

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes."""
        self._memory.append(torch.empty(size, dtype=torch.uint8, device=self.device))
        return self._memory[-1].data_ptr()


class Kernels:
    """The drivers for one type of device; the extension module that holds them is loaded at the first question."""

    def __init__(self, module: str, where: Callable[[torch.device], Any]) -> None:
        self._name = module
        self._where = where  # what tells a driver where to work

    @cached_property
    def _loaded(self) -> tuple[ModuleType | None, str]:
        """The module or None, and what is wrong with it."""
        try:
            module = import_module(self._name)
        except ModuleNotFoundError:
            return None, "not built"
        except ImportError as error:
            return None, f"not loaded ({error})"
        return module, module.problem()

    @property
    def module(self) -> ModuleType | None:
        return self._loaded[0]

    @property
    def build(self) -> str:
        """What was built and by what, in a line; empty where nothing was."""
        return self.module.build if self.module else ""

    @property
    def missing(self) -> str:
        """Why there are no kernels; empty where there are."""
        return self._loaded[1]

    def run(self, name: str, device: torch.device, *args: Any) -> None:
        """Calls the driver ``name``, which writes its results into tensors among ``args``.

        Raises:
            SetupError: the device refuses, as where its memory is full.
        """
        try:
            getattr(self.module, name)(*args, self._where(device))
        except RuntimeError as error:
            raise SetupError(f"{name} failed on {device}: {error}; CROWDSEG_OPS=torch does without kernels") from error


KERNELS = {
    "cpu": Kernels("crowdseg._cpu", lambda device: torch.get_num_threads()),
    "cuda": Kernels("crowdseg._cuda", Stream),
}


def run(name: str, device: torch.device, *args: Any) -> None:
    """Calls the driver ``name`` of a device; see :meth:`Kernels.run`."""
    KERNELS[device.type].run(name, device, *args)


def backend(device: str = "cpu") -> str:
    """``native`` or ``torch``: what the operators run on tensors of a type of device.

    Raises:
        UsageError: ``CROWDSEG_OPS`` names no backend.
        SetupError: ``native`` is asked for where there are no kernels.
    """
    wanted = use_backend.wanted or os.environ.get("CROWDSEG_OPS") or "auto"
    _check(wanted)
    if wanted == "torch" or (wanted == "auto" and (device not in KERNELS or KERNELS[device].missing)):
        return "torch"
    if device not in KERNELS or KERNELS[device].missing:
        why = KERNELS[device].missing if device in KERNELS else "there are none"
        raise SetupError(f"no compiled kernels for {device}: {why}; `crowdseg doctor` says how to get them")
    return "native"


def _check(name: str) -> None:
    if name not in BACKENDS:
        raise UsageError(f"no backend {name!r} (CROWDSEG_OPS or use_backend): choose from {', '.join(BACKENDS)}")


class use_backend:  # reads as the function it is used as
    """Choose what the operators run: ``torch``, ``native`` kernels, or ``auto``, kernels where there are any.

    ``use_backend("torch")`` holds from then on, ``with use_backend("torch"):`` within the block. The environment's
    ``CROWDSEG_OPS`` says what holds before; without it, ``auto``.

    Raises:
        UsageError: no backend of that name.
    """

    wanted: str | None = None

    def __init__(self, name: str) -> None:
        _check(name)
        self._before = use_backend.wanted
        use_backend.wanted = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        use_backend.wanted = self._before


def attach(op: Any, reference: Callable[..., Any], native: Callable[..., Any]) -> None:
    """Registers with a custom operator what runs ``native`` where the kernels are there and wanted."""

    def run_on(device: str) -> None:
        def kernel(*args: Any) -> Any:
            with torch.cuda.device_of(args[0]):  # among several GPUs, that of the tensors; nothing elsewhere
                return (native if backend(device) == "native" else reference)(*args)

        # not by op.register_kernel, whose first call loads torch's compiler: a second or two
        torch.library.impl(op._qualname, device, kernel)

    for device in KERNELS:
        run_on(device)
