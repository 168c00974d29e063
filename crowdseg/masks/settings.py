"""How masks are made from points; written beside them, so that a change of settings is noticed."""

from __future__ import annotations

from dataclasses import dataclass

from crowdseg.errors import UsageError


@dataclass(frozen=True)
class MaskSettings:
    """Settings of mask preparation. Lengths are pixels of the full-resolution image.

    Attributes:
        segmenter: ``"superpixel"`` or ``"sam"``.
        sam_model: ``"vit_b"``, ``"vit_l"`` or ``"vit_h"``; None for the superpixel route and for a folder's model.
        sam_checkpoint: the weights' name and size, so that other weights are noticed.
        min_radius: least radius of an exclusion circle.
        blob_threshold: least share of the colour variance in their circles that blobs around the points must explain
            for the people (or nuclei, or cells) of an image to be taken for blobs rather than for bodies below a head.
        min_containment: least share of a candidate mask inside the circle for it to be trusted (SAM).
        prompt_batch: prompts decoded at once (SAM); it does not change the masks.
        edition: of the methods behind these settings; raised when they give other masks than before.
    """

    segmenter: str = "superpixel"
    sam_model: str | None = None
    sam_checkpoint: str | None = None
    min_radius: float = 3.0
    blob_threshold: float = 0.6
    min_containment: float = 0.3
    prompt_batch: int = 64
    edition: int = 4

    def __post_init__(self) -> None:
        if self.segmenter not in ("superpixel", "sam"):
            raise UsageError(f"There is no segmenter {self.segmenter!r}: choose superpixel or sam.")
        for name in ("blob_threshold", "min_containment"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a share in [0, 1], not {getattr(self, name)}.")
        if self.min_radius < 1 or self.prompt_batch < 1:
            raise UsageError("min_radius and prompt_batch are at least 1.")
