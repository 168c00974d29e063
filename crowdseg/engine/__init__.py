"""The training loop, checkpoints, prediction and evaluation."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "train_seg": "train",
    "train_count": "train",
    "TrainResult": "train",
    "evaluate": "evaluation",
    "EvaluationResult": "evaluation",
    "compare_scores": "comparison",
    "ScoreComparison": "comparison",
    "Model": "model",
    "load": "model",
    "predict": "model",
    "export_model": "export",
    "import_weights": "published",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Loaded on first use: prediction needs no training code, and scoring files needs no network."""
    if name in _WHERE:
        return getattr(import_module(f"crowdseg.engine.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'crowdseg.engine' has no attribute {name!r}")
