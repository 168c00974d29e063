"""In which float type what is computed."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def exact(tensor: Tensor) -> Tensor:
    """In the widest float type of its device: geometry that decides a label is done in it, so that float32 and float64
    inputs decide alike."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which embeddings of ``dtype`` are summed: float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def full_precision(reference: Callable[P, R]) -> Callable[P, R]:
    """Keep autocast, which would sum in half precision, out of a reference; its first argument is a tensor."""

    @functools.wraps(reference)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast(args[0].device.type, enabled=False):  # type: ignore[attr-defined]
            return reference(*args, **kwargs)

    return run
