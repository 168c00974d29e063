"""People (or nuclei, or cells) that stand out as blobs around their points: outlines, then pixels.

Pixels around each outline go by its own two colours first, and then by what all those masks have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from crowdseg.masks.crowd import Crowd, Window
from crowdseg.masks.exclusion import keep_points, settle
from crowdseg.masks.segmenters.base import Claim, part_at
from crowdseg.masks.segmenters.foreground import edges, learn_foreground
from crowdseg.masks.segmenters.outlines import Floats, relative_distance
from crowdseg.structures import LabelMap

# A person's index, a window and each pixel's distance as a share of the outline's -> how much each is the person's.
Evidence = Callable[[int, Window, Floats], Floats]

_BAND = 1.8  # pixels up to this multiple of the outline are looked at
_HALFWAY = 0.5  # where between the surroundings' colour (0) and the person's (1) a pixel becomes the person's
_SHARED = 0.5  # how far that follows the image's usual contrast, not the person's: faint ones end earlier, bright later
_EARLIEST, _LATEST = 0.8, 0.2
_NOISE = 3.0  # a contrast below it means nothing
_ASKED = 64  # people looked at for the usual contrast
_TRUST = 1.5  # in the outline, against the colours: at 10 % beyond it, 0.15 more likeness is asked for
_TRUST_LEARNT = 8.0  # the same against log-odds: at 10 % beyond the outline, odds of 2:1 are asked for
_LEARN = 1.5  # pixels up to this multiple of some outline tell people from ground
_GROW = 1.03  # outlines end at the last sample inside


def segment_blobs(colours: Floats, lengths: Floats, crowd: Crowd) -> LabelMap:
    """``colours`` ``(H, W, C)``, as for :func:`fit_outlines`, and outlines ``(N, RAYS)`` -> label map."""
    lengths = lengths * np.float32(_GROW)
    sketch = settle(_sketched(lengths, crowd), crowd)
    usual = _usual_contrast(colours, lengths, sketch, crowd)

    def by_two_colours(index: int, window: Window, distance: Floats) -> Floats:
        return _likeness(colours[window], sketch[window], index + 1, distance, usual) / _TRUST

    labels = settle(_claims(by_two_colours, lengths, crowd), crowd)
    odds = learn_foreground(colours, labels, _near(lengths, crowd))
    if odds is not None:
        labels = settle(_claims(lambda _, window, __: odds[window] / _TRUST_LEARNT, lengths, crowd), crowd)
    return _follow_edges(colours, labels, lengths, crowd)


def _sketched(lengths: Floats, crowd: Crowd) -> Iterator[Claim]:
    """The outlines, filled."""
    for index in range(len(crowd)):
        window = crowd.window(index, min(crowd.radii[index], lengths[index].max()))
        distance = relative_distance(lengths[index], *crowd.offsets(index, window))
        yield Claim(index, window, (distance <= 1) & crowd.inside(index, window), -distance, "superpixel")


def _claims(evidence: Evidence, lengths: Floats, crowd: Crowd) -> Iterator[Claim]:
    """Pixels around each outline that the evidence speaks for; further out more of it is asked for."""
    rows, columns = crowd.pixels
    for index in range(len(crowd)):
        window, distance = _band(lengths, crowd, index)
        mask = evidence(index, window, distance) > np.log(np.maximum(distance, 0.2))
        mask &= (distance <= _BAND) & crowd.inside(index, window)
        at = rows[index] - window[0].start, columns[index] - window[1].start
        mask[at] = True
        yield Claim(index, window, part_at(mask, *at), -distance, "superpixel")


def _near(lengths: Floats, crowd: Crowd) -> NDArray[np.bool_]:
    """Which pixels of the image lie in somebody's outline or not far outside it."""
    near = np.zeros(crowd.size, bool)
    for index in range(len(crowd)):
        window = crowd.window(index, lengths[index].max() * _LEARN)
        near[window] |= relative_distance(lengths[index], *crowd.offsets(index, window)) < _LEARN
    return near


def _band(lengths: Floats, crowd: Crowd, index: int) -> tuple[Window, Floats]:
    """The window in which a person is looked for, and each pixel's distance as a share of the outline's."""
    window = crowd.window(index, min(crowd.radii[index], lengths[index].max() * _BAND))
    return window, relative_distance(lengths[index], *crowd.offsets(index, window))


def _usual_contrast(colours: Floats, lengths: Floats, sketch: LabelMap, crowd: Crowd) -> float:
    """Median distance of a person's colour from its surroundings', over some people."""
    found = []
    for index in np.unique(np.linspace(0, len(crowd) - 1, min(_ASKED, len(crowd))).astype(np.intp)):
        window, distance = _band(lengths, crowd, index)
        person, around = _two_colours(colours[window], sketch[window], index + 1, distance)
        if around is not None:
            found.append(np.linalg.norm(person - around))
    return max(float(np.median(found)), _NOISE) if found else _NOISE


def _likeness(colours: Floats, sketch: LabelMap, label: int, distance: Floats, usual: float) -> Floats:
    """Where each pixel's colour lies on the line from the surroundings' to the person's, 0 where they meet."""
    person, around = _two_colours(colours, sketch, label, distance)
    if around is None:
        return np.zeros(distance.shape, np.float32)
    line = person - around
    contrast = max(float(np.linalg.norm(line)), _NOISE)
    meet = np.clip(_HALFWAY * (usual / contrast) ** _SHARED, _LATEST, _EARLIEST)
    return ((colours - around) @ line / contrast**2).clip(-0.5, 1.2) - meet


def _two_colours(colours: Floats, sketch: LabelMap, label: int, distance: Floats) -> tuple[NDArray, NDArray | None]:
    """Median colours of a person and of its surroundings, the latter None where there are none."""
    core = (sketch == label) & (distance < 0.85)
    if core.sum() < 3:
        core = distance <= max(0.85, np.sort(distance.ravel())[:3].max())
    return np.median(colours[core], axis=0), _surroundings(colours, sketch, label, distance)


def _surroundings(colours: Floats, sketch: LabelMap, label: int, distance: Floats) -> NDArray | None:
    """Median colour of the ring around an outline, without other people as long as anything is left."""
    for ring in ((sketch == 0) & (distance > 1.15), (sketch == 0) & (distance > 1.1), sketch != label):
        ring = ring & (distance > 1.1) & (distance <= 3 * _BAND)
        if ring.sum() >= 8:
            return np.median(colours[ring], axis=0)
    return None


def _follow_edges(colours: Floats, labels: LabelMap, lengths: Floats, crowd: Crowd) -> LabelMap:
    """Move the borders between touching people onto edges of the image, and else halfway."""
    middle = settle(_sketched(lengths * np.float32(0.5), crowd), crowd)
    relief = edges(colours)
    relief /= np.float32(max(float(np.percentile(relief[labels > 0], 90)), 1e-3))
    relief += np.minimum(_depth(labels, lengths, crowd), 3.0)
    moved = watershed(relief, np.where(middle == labels, middle, 0), mask=labels > 0).astype(np.int32)
    moved = np.where((moved > 0) & crowd.inside_own(moved), moved, labels)
    return keep_points(moved, crowd)


def _depth(labels: LabelMap, lengths: Floats, crowd: Crowd) -> Floats:
    """Distance from the owner's point as a multiple of its mean outline, at labelled pixels."""
    rows, columns = np.nonzero(labels)
    owner = labels[rows, columns] - 1
    x, y = crowd.points[owner].T
    depth = np.zeros(labels.shape, np.float32)
    depth[rows, columns] = np.hypot(columns - x, rows - y) / np.maximum(lengths.mean(axis=1)[owner], 1)
    return depth
