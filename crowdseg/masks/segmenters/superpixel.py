"""The default segmenter: needs no weights.

It first asks whether the people of the image are blobs around their points, as nuclei and far heads are, or bodies that
reach down from a head: a blob's outline explains most of the colour variance in its circle, a head's does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crowdseg.masks.crowd import Crowd
from crowdseg.masks.segmenters.base import Claim
from crowdseg.masks.segmenters.blobs import segment_blobs
from crowdseg.masks.segmenters.bodies import body_claims
from crowdseg.masks.segmenters.outlines import Floats, fit_outlines
from crowdseg.masks.superpixels import to_lab
from crowdseg.structures import LabelMap

_ASKED = 64  # people looked at to tell blobs from bodies
_USUAL, _FEW = 0.45, 4  # what heads in a crowd reach, and how many such heads count as seen in every image


@dataclass(frozen=True)
class SuperpixelSegmenter:
    """See the module. ``blob_threshold`` as in :class:`crowdseg.masks.settings.MaskSettings`."""

    blob_threshold: float = 0.6

    def claims(self, image: NDArray[np.uint8], crowd: Crowd) -> Iterator[Claim]:
        lab = to_lab(image)
        # Square roots even out the noise of dark and light; 6.25 brings them to LAB's scale. Together the two tell more
        # than either.
        colours = np.concatenate([np.sqrt(image, dtype=np.float32) * np.float32(6.25), lab], axis=-1)
        smooth = ndimage.gaussian_filter(colours, (0.7, 0.7, 0))
        if _evidence_of_blobs(smooth, crowd) < self.blob_threshold:
            return body_claims(lab, crowd)
        lengths = fit_outlines(smooth, crowd, np.arange(len(crowd))).lengths
        return _claims_of(segment_blobs(colours, lengths, crowd), len(crowd))


def _evidence_of_blobs(colours: Floats, crowd: Crowd) -> float:
    """Median share of variance that outlines explain, drawn towards a photographed crowd's where people are few."""
    some = np.unique(np.linspace(0, len(crowd) - 1, min(_ASKED, len(crowd))).astype(np.intp))
    explained = fit_outlines(colours, crowd, some).explained
    return float((len(some) * np.median(explained) + _FEW * _USUAL) / (len(some) + _FEW))


def _claims_of(labels: LabelMap, number: int) -> Iterator[Claim]:
    """A settled label map as claims that do not conflict."""
    for index, window in enumerate(ndimage.find_objects(labels, max_label=number)):
        if window is not None:
            mask = labels[window] == index + 1
            yield Claim(index, window, mask, np.zeros(mask.shape, np.float32), "superpixel")
