"""Training methods by name. A method is one module here and one line in ``METHODS``."""

from __future__ import annotations

from crowdseg.errors import UsageError
from crowdseg.methods.base import Batch, Labelled, Method, Progress, StepResult, Unlabelled
from crowdseg.methods.xmask import XMask

METHODS: dict[str, type[Method]] = {"xmask": XMask}

__all__ = ["METHODS", "Batch", "Labelled", "Method", "Progress", "StepResult", "Unlabelled", "method_class"]


def method_class(name: str) -> type[Method]:
    if name not in METHODS:
        raise UsageError(f"There is no method `{name}`: use one of {', '.join(METHODS)}.")
    return METHODS[name]
