"""Segmenters: image and points -> claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crowdseg.errors import SetupError
from crowdseg.masks.segmenters.base import Claim, Segmenter
from crowdseg.masks.settings import MaskSettings

if TYPE_CHECKING:
    from crowdseg.masks.segmenters.prompted import PromptedModel

__all__ = ["Claim", "Segmenter", "make_segmenter"]


def make_segmenter(settings: MaskSettings, checkpoint: Path | None = None) -> Segmenter:
    """The segmenter that the settings name; that of ``sam`` loads the weights ``checkpoint``, a file or a folder.

    Raises:
        UsageError: no such SAM model. SetupError: the weights are not there or not of this model.
    """
    if settings.segmenter == "superpixel":
        from crowdseg.masks.segmenters.superpixel import SuperpixelSegmenter

        return SuperpixelSegmenter(settings.blob_threshold)
    from crowdseg.masks.segmenters.prompted import PromptedSegmenter

    model = _load_model(settings.sam_model, checkpoint)
    return PromptedSegmenter(model, min_containment=settings.min_containment, prompt_batch=settings.prompt_batch)


def _load_model(name: str | None, checkpoint: Path | None) -> PromptedModel:
    """A model of segment-anything by its name, or, without a name, a folder of transformers."""
    if checkpoint is None:
        raise SetupError("The sam segmenter needs weights: a file of segment-anything or a folder of transformers.")
    if name is None:
        from crowdseg.masks.segmenters.huggingface import load_huggingface

        return load_huggingface(checkpoint)
    from crowdseg.masks.segmenters.sam import load_sam

    return load_sam(name, checkpoint)
