"""The people of one image as the page of predictions holds them: whole numbers in columns, deflated.

Masks are runs along the rows of a label map of the page's own size, which may be smaller than the image; points are
whole pixels, areas and scores those of the image. Where masks overlap the smaller one is on top.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowdseg import rle
from crowdseg.engine.roles import Role
from crowdseg.structures import RLE, LabelMap, Points, Prediction, Size

SCORE_STEPS = 1000  # of a score from 0 to 1


@dataclass(frozen=True)
class PackedPeople:
    """What the page needs to unpack ``columns``, base64 of: x, y, score, area, role and number of runs of each of the
    ``number`` people; then of each of the ``runs`` the gap behind the one before, and its length.

    ``mask_size`` is the (H, W) that the runs are of, None where no masks are there.
    """

    number: int
    runs: int
    mask_size: Size | None
    columns: str


def pack_people(
    prediction: Prediction,
    masks: Sequence[RLE],
    mask_size: Size | None,
    roles: NDArray[np.integer] | None = None,
    missed: Points | None = None,
) -> PackedPeople:
    """Pack the people of ``prediction`` and those it ``missed``, who have no score and no mask.

    Args:
        masks: of the people of ``prediction``; none where it has none.
        mask_size: (H, W) in which masks are packed; None leaves them out, their areas stay.
        roles: ``(N,)`` how each person of the prediction came out, by :class:`crowdseg.engine.roles.Role`.
        missed: ``(K, 2)`` points (x, y) in pixels, put behind the others.
    """
    extra = np.zeros((0, 2)) if missed is None else missed
    known = len(prediction.points)
    points = np.concatenate([prediction.points, extra]).reshape(-1, 2)
    areas = rle.area(list(masks)) if masks else np.zeros(known, np.int64)
    labels = draw_small(masks, areas, prediction.size, mask_size) if masks and mask_size else None
    numbers, gaps, lengths = _row_runs(labels, known)
    nobody = np.zeros(len(extra), np.int64)
    person = [
        *np.rint(points).clip(0, np.array(prediction.size)[::-1] - 1).T,
        np.append(np.rint(prediction.scores.astype(np.float64) * SCORE_STEPS).clip(0, SCORE_STEPS), nobody),
        np.append(areas, nobody),
        np.append(np.full(known, Role.found) if roles is None else roles, nobody + Role.missed),
        np.append(numbers, nobody),
    ]
    columns = b"".join(map(_planes, [*person, gaps, lengths]))
    packed = base64.b64encode(zlib.compress(columns)).decode()
    return PackedPeople(len(points), len(gaps), None if labels is None else labels.shape, packed)


def draw_small(masks: Sequence[RLE], areas: NDArray[np.int64], size: Size, small: Size) -> LabelMap:
    """The label map of ``size`` at the pixels nearest to those of a ``small`` one; never drawn at its full size."""
    height = size[0]
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(np.int64) for n, m in zip(small, size, strict=True))
    owner, first, past = rle.cut_at_columns(rle.runs(masks), height)
    column = first // height
    at = np.searchsorted(columns, column)
    top, bottom = (np.searchsorted(rows, edge - column * height) for edge in (first, past))
    seen = (at < len(columns)) & (columns[at.clip(max=len(columns) - 1)] == column) & (bottom > top)
    order = np.flatnonzero(seen)[np.lexsort((-owner[seen], -areas[owner[seen]]))]  # of several the last one stays
    lengths = (bottom - top)[order]
    down = rle.spans(top[order], lengths)
    labels = np.zeros(small, np.int32)
    labels[down, np.repeat(at[order], lengths)] = np.repeat(owner[order] + 1, lengths)
    return labels


def _row_runs(labels: LabelMap | None, number: int) -> tuple[NDArray[np.int64], ...]:
    """Per person the number of runs; per run, ordered by person, how far it begins behind one row below the beginning
    of the run before (0, -1, 1, -2, ... as 0, 1, 2, 3, ...), and its length."""
    if labels is None or not labels.size:
        return np.zeros(number, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    flat, width = labels.ravel(), labels.shape[1]
    begins = np.append(True, flat[1:] != flat[:-1])
    begins[::width] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, flat.size))
    order = np.argsort(flat[starts], kind="stable")
    order = order[flat[starts[order]] > 0]
    starts, lengths = starts[order], lengths[order]
    gaps = np.diff(starts, prepend=0) - width
    return np.bincount(flat[starts], minlength=number + 1)[1:], np.where(gaps < 0, -2 * gaps - 1, 2 * gaps), lengths


def _planes(column: NDArray) -> bytes:
    """First all lowest bytes, then all second ones, ...: small numbers deflate to next to nothing."""
    return np.asarray(column).astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()
