"""Instance masks from one point per head (xmask section 8)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "prep_masks": "batch",
    "PrepResult": "batch",
    "export_masks": "export",
    "MaskExport": "export",
    "import_masks": "importing",
    "MaskImport": "importing",
    "masks_from_points": "prepare",
    "MaskSettings": "settings",
    "review_masks": "review",
    "MaskReview": "review",
    "MaskStore": "store",
    "Record": "store",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Loaded on first use: reading prepared masks needs no segmenter."""
    if name in _WHERE:
        return getattr(import_module(f"crowdseg.masks.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'crowdseg.masks' has no attribute {name!r}")
