"""Segmenters: image and points -> claims."""

from __future__ import annotations

from pathlib import Path

from crowdseg.masks.segmenters.base import Claim, Segmenter
from crowdseg.masks.settings import MaskSettings

__all__ = ["Claim", "Segmenter", "make_segmenter"]


def make_segmenter(settings: MaskSettings, checkpoint: Path | None = None) -> Segmenter:
    """The segmenter that the settings name; loads the weights of ``sam`` from ``checkpoint``.

    Raises:
        SetupError: the weights are not there or not of this model.
    """
    from crowdseg.masks.segmenters.superpixel import SuperpixelSegmenter

    if settings.segmenter == "superpixel":
        return SuperpixelSegmenter(settings.blob_threshold)
    from crowdseg.masks.segmenters.sam import load_sam

    return load_sam(settings, checkpoint)
