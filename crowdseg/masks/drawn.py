"""Records of masks that were not made here but drawn elsewhere: corrected, imported, or of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crowdseg.masks.settings import MaskSettings
from crowdseg.masks.store import IMPORTED, MaskStore, Record
from crowdseg.structures import LabelMap, Sample

if TYPE_CHECKING:
    from crowdseg.masks.crowd import Crowd


def records_of(store: MaskStore, sample: Sample) -> list[Record]:
    """One record per person, also where the masks' maker left none.

    Raises:
        DataError: records or label map are damaged.
    """
    records = store.records(sample)
    return records if records or not sample.count else drawn_records(store.labels(sample), crowd_of(sample))


def crowd_of(sample: Sample) -> Crowd:
    """The people of an annotated image, with the circles that prep-masks gives them."""
    from crowdseg.masks.crowd import Crowd  # loads torch, which most records do without

    assert sample.points is not None
    return Crowd.of(sample.points, sample.size, MaskSettings().min_radius)


def drawn_records(labels: LabelMap, crowd: Crowd, told: Mapping[int, dict[str, Any]] | None = None) -> list[Record]:
    """A record per person, measured on the label map.

    Args:
        labels: ``(H, W)``, n + 1 the n-th person; labels of nobody do not count.
        told: by label what is known of a mask beside its pixels: ``source``, ``score``, ``leakage``, each if it makes
            sense.
    """
    labels = np.where(labels <= len(crowd), labels, 0)
    areas = np.bincount(labels.ravel(), minlength=len(crowd) + 1)
    inside = np.bincount(labels[crowd.inside_own(labels)], minlength=len(crowd) + 1)
    records = []
    for index, ((x, y), radius) in enumerate(zip(crowd.points, crowd.radii, strict=True)):
        area = int(areas[index + 1])
        source, score = IMPORTED, None
        leakage = 1 - inside[index + 1] / max(area, 1)
        each = (told or {}).get(index + 1, {})
        if isinstance(each.get("source"), str):
            source, score = each["source"], _number(each.get("score"), None)
            leakage = _number(each.get("leakage"), leakage)
        records.append(
            Record(index, (float(x), float(y)), source, score, round(float(leakage), 4), area, round(float(radius), 3))
        )
    return records


def _number(value: Any, otherwise: float | None) -> Any:
    return float(value) if isinstance(value, (int, float)) else otherwise
