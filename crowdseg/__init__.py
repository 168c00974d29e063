"""From one point per head to instance masks, segmenters and counters of crowds.

The public API, loaded on first use so that ``import crowdseg`` and ``crowdseg --help`` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> module that defines it
_API = {
    "Sample": "crowdseg.structures",
    "Prediction": "crowdseg.structures",
    "Dataset": "crowdseg.data",
    "load_dataset": "crowdseg.data",
    "prep_masks": "crowdseg.masks",
    "train_seg": "crowdseg.engine",
    "train_count": "crowdseg.engine",
    "evaluate": "crowdseg.engine",
    "compare_scores": "crowdseg.engine",
    "predict": "crowdseg.engine",
    "load": "crowdseg.engine",
    "export_model": "crowdseg.engine",
    "import_weights": "crowdseg.engine",
}

__all__ = [*_API, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'crowdseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
