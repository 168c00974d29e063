"""One self-contained HTML page to look through prepared masks: a crop per person, the most doubtful first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from crowdseg import files
from crowdseg.data import read_image
from crowdseg.errors import DataError
from crowdseg.masks.review import REASONS, DoubtfulMask, MaskReview
from crowdseg.report.page_parts import Histogram, histogram, jpeg, template
from crowdseg.structures import LabelMap, Sample

_LONGEST = 256  # px of a crop's longer side: bounds what a person adds to the page
_QUALITY = 82  # of the crops' JPEG
_LEAST_REACH = 12  # px around a point that are always shown
_BINS = 24  # of a histogram

Tick = Callable[[int, int], None]  # images done, of how many


@dataclass(frozen=True)
class MasksPage:
    """What :func:`write_masks_page` wrote.

    Attributes:
        path: of the page. shown: people on it. failures: images or label maps that could not be read, with the reason.
    """

    path: Path
    shown: int
    failures: list[tuple[Path, str]]


@dataclass(frozen=True)
class Crop:
    """The surroundings of one person; lengths in pixels of the image, from the crop's upper left edge.

    Attributes:
        picture: JPEG as a data URI. width, height: of the crop.
        mask, others: SVG paths around the person's mask and around each of its neighbours'.
        x, y: of the point. radius: of the exclusion circle.
    """

    picture: str
    width: int
    height: int
    mask: str
    others: str
    x: float
    y: float
    radius: float


def write_masks_page(path: Path, review: MaskReview, progress: Tick | None = None) -> MasksPage:
    """Write the page of ``review`` to ``path``; people whose image cannot be read are left out and named.

    Raises:
        DataError: the page cannot be written there.
    """
    crops, failures = _crops(review, progress)
    people = [(person, crops[number]) for number, person in enumerate(review.worst) if number in crops]
    page = template("masks_page.html").render(
        review=review,
        people=people,
        reasons=[reason for reason in REASONS if any(person.reason == reason for person, _ in people)],
        sources=[source for source in review.sources if any(person.record.source == source for person, _ in people)],
        histograms=_histograms(review),
        failures=[problem for _, problem in [*review.failures, *failures]],
        why=_why,
    )
    files.write_text(path, page)
    return MasksPage(path, len(people), failures)


def _why(person: DoubtfulMask) -> str:
    """The greatest doubt in a few words."""
    record = person.record
    return {
        "fallback": f"by {record.source}",
        "score": f"score {record.score or 0:.2f}",
        "leakage": f"leakage {_percent(record.leakage)}",
        "size": f"fills {_percent(person.share)}",
    }[person.reason]


def _percent(share: float) -> str:
    """With a decimal below ten percent: a mask in a large circle never fills nothing."""
    if 0 < share < 0.001:
        return "under 0.1%"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def _crops(review: MaskReview, progress: Tick | None) -> tuple[dict[int, Crop], list[tuple[Path, str]]]:
    """By position in ``review.worst``; every image is read once."""
    by_image: dict[str, list[int]] = {}
    for number, person in enumerate(review.worst):
        by_image.setdefault(person.sample.key, []).append(number)
    crops: dict[int, Crop] = {}
    failures: list[tuple[Path, str]] = []
    for done, numbers in enumerate(by_image.values(), 1):
        sample = review.worst[numbers[0]].sample
        try:
            made = _crops_of(sample, review.store.labels(sample), [review.worst[number] for number in numbers])
            crops.update(zip(numbers, made, strict=True))
        except DataError as error:
            failures.append((sample.image, str(error)))
        if progress is not None:
            progress(done, len(by_image))
    return crops, failures


def _crops_of(sample: Sample, labels: LabelMap, people: list[DoubtfulMask]) -> list[Crop]:
    image, extents = read_image(sample.image), ndimage.find_objects(labels)
    if image.shape[:2] != labels.shape:
        raise DataError(f"{sample.image} changed since its masks were made: run prep-masks again.")
    return [_crop(image, labels, person, extents) for person in people]


def _crop(
    image: NDArray[np.uint8], labels: LabelMap, person: DoubtfulMask, extents: list[tuple[slice, slice] | None]
) -> Crop:
    """The mask with a rim around it, and never more than the circle with a rim."""
    (x, y), label = person.record.point, person.record.index + 1
    reach = _reach(person, extents[label - 1] if label <= len(extents) else None)
    (height, width) = labels.shape
    top, left = max(0, round(y - reach)), max(0, round(x - reach))
    bottom, right = min(height, round(y + reach) + 1), min(width, round(x + reach) + 1)
    window = labels[top:bottom, left:right]
    scale = max(1.0, max(window.shape) / _LONGEST)  # image pixels per pixel of the crop
    others = [other for other in np.unique(window) if other not in (0, label)]
    return Crop(
        picture=_jpeg(image[top:bottom, left:right], scale),
        width=window.shape[1],
        height=window.shape[0],
        mask=_outline(window == label, scale),
        others="".join(_outline(window == other, scale) for other in others),
        x=round(x - left + 0.5, 1),
        y=round(y - top + 0.5, 1),
        radius=round(person.record.radius, 1),
    )


def _reach(person: DoubtfulMask, extent: tuple[slice, slice] | None) -> float:
    """How far from the point the crop shows, in pixels."""
    (x, y), radius = person.record.point, person.record.radius
    if extent is None:  # the person has no pixel
        return max(radius * 1.2, _LEAST_REACH)
    rows, columns = extent
    farthest = max(x - columns.start, columns.stop - 1 - x, y - rows.start, rows.stop - 1 - y)
    return max(min(1.5 * farthest, 1.2 * radius), farthest, _LEAST_REACH)


def _jpeg(crop: NDArray[np.uint8], scale: float) -> str:
    picture = Image.fromarray(np.ascontiguousarray(crop))
    if scale > 1:
        size = (max(1, round(picture.width / scale)), max(1, round(picture.height / scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return "data:image/jpeg;base64," + jpeg(picture, _QUALITY)


def _outline(mask: NDArray[np.bool_], scale: float) -> str:
    """An SVG path around a mask, true to half a pixel of the crop; pixel (0, 0) covers the square from 0 to 1."""
    padded = np.pad(mask.astype(np.float32), 1)
    rings = [approximate_polygon(ring, 0.4 * scale) - 0.5 for ring in find_contours(padded, 0.5)]
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in ring[:-1]) + "Z" for ring in rings)


def _histograms(review: MaskReview) -> list[Histogram]:
    """Of what the people have: no histogram of scores where there are none."""
    values = review.values
    scored, leaked = values["score"][~np.isnan(values["score"])], values["leakage"]
    full = float(np.ceil(10 * min(1.0, values["share"].max(initial=0.1))) / 10)
    areas = values["area"]
    found = [
        histogram("predicted IoU", "", scored, np.linspace(0, 1, _BINS + 1)),
        histogram("leakage", " %", 100 * leaked[: len(leaked) * bool(leaked.any())], np.linspace(0, 100, _BINS + 1)),
        histogram("share of the circle", " %", 100 * values["share"], np.linspace(0, 100 * full, _BINS + 1)),
        histogram("area (log scale)", " px", areas, np.geomspace(1, max(areas.max(initial=2), 2), _BINS + 1)),
    ]
    return [each for each in found if each is not None]
