"""One self-contained HTML page to look through predictions: photographs with their people, and how they came out.

Images come one by one and are held as they will stand in the page. Its size is bounded, so memory is too, whatever the
number and the size of the images; what does not fit is left out, and the page says so.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from crowdseg import files
from crowdseg.data import read_image
from crowdseg.engine.roles import Role
from crowdseg.errors import DataError
from crowdseg.report.page_parts import Histogram, histogram, template
from crowdseg.report.page_people import SCORE_STEPS, PackedPeople, pack_people
from crowdseg.report.page_pictures import TILE, page_picture
from crowdseg.structures import Prediction

if TYPE_CHECKING:
    from crowdseg.engine.findings import Findings  # behind it stands SciPy, which takes a while to load
    from crowdseg.engine.image_files import NamedImage
    from crowdseg.report.prediction import PredictionWriter

PAGE = "page.html"  # its name in a folder of results
LIMIT = 19_000_000  # bytes of the images in a page
PLANNED = 200  # images for which the limit is divided where nobody says how many there will be
_LEAST = 24_000  # bytes an image may take, however many there are
_WEIGHT = 2.5  # by which an image gets more room than others, or less
_FEW = 10  # people: below it their number makes hardly a difference
_MASK_SHARE = 0.4  # of these for people; masks that take more become coarser
_MASK_PIXELS = 4e6  # of the label map that the page draws
_COARSENINGS = 3  # of masks, to half as many pixels a side, before they are left out
_BINS = 24  # of a histogram
_ROW = 400  # bytes of what the gallery knows of an image, beside its name and thumbnail


@dataclass(order=True)
class _Shown:
    """An image of the page. Where room is short those of least ``worth`` go first, of equal ones the last."""

    worth: float
    age: int
    row: dict[str, Any] = field(compare=False)  # what the gallery needs
    details: str = field(compare=False)  # JSON, read when the image is opened

    @property
    def bytes(self) -> int:
        return len(self.details) + len(self.row["thumbnail"]) + len(self.row["name"]) + _ROW


@dataclass(frozen=True)
class Figure:
    """A figure of a whole evaluation as text; ``main`` ones are seen at once, the others on demand."""

    name: str
    value: str
    interval: str
    remark: str
    main: bool


class PredictionsPage:
    """Collects the images of a page, which :meth:`write` writes.

    Args:
        planned: how many images will come, among which the room is divided.
        limit: bytes that the images may take in all.
    """

    def __init__(self, planned: int = PLANNED, limit: int = LIMIT) -> None:
        self._planned, self._limit, self._used = planned, limit, 0
        self._shown: list[_Shown] = []
        self._dropped: _Shown | None = None  # the last one
        self._counts: list[tuple[float, float, float]] = []  # people, true people, megapixels of every image
        self._compared = False
        self._distance: str | None = None  # within which points were matched
        self._unread: list[str] = []

    def add(self, prediction: Prediction, pixels: NDArray[np.uint8]) -> None:
        """Take one image ``(H, W, 3)`` with its prediction; ``prediction.key`` is its name."""
        row = {"name": str(prediction.key), "count": _number(prediction.count)}
        self._add(row, prediction, pixels, prediction.count)

    def add_findings(self, findings: Findings, pixels: NDArray[np.uint8]) -> None:
        """Take one scored image ``(H, W, 3)``."""
        self._compared, self._planned, self._distance = True, findings.images, findings.distance
        scores = findings.scores
        matches, iou = scores.localization.get(findings.distance or ""), scores.mean_iou_c
        row = {
            "name": findings.sample.key,
            "count": _number(scores.predicted),
            "true": scores.true,
            "f1": None if matches is None else _number(matches.f1),
            "iou": None if iou is None else _number(iou.value),
        }
        self._add(row, findings.prediction, pixels, scores.predicted, findings)

    def look(self, findings: Findings) -> None:
        """Take one scored image, read from its file; the page names those that cannot be read."""
        try:
            pixels = read_image(findings.sample.image)
        except DataError as error:
            self._unread.append(f"Left out of this page: {error}")
        else:
            self.add_findings(findings, pixels)

    def _add(
        self,
        row: dict[str, Any],
        prediction: Prediction,
        pixels: NDArray[np.uint8],
        count: float,
        findings: Findings | None = None,
    ) -> None:
        height, width = pixels.shape[:2]
        room = self._room(count)
        people = _people(prediction, findings, int(_MASK_SHARE * room))
        picture = page_picture(pixels, room - len(people.columns) - _ROW)
        details = {
            "people": people.columns,
            "number": people.number,
            "runs": people.runs,
            "masks": people.mask_size,
            "picture": picture.size,
            "tiles": picture.tiles,
        }
        row |= {"size": (height, width), "thumbnail": picture.thumbnail, "place": len(self._counts)}
        row["unmasked"] = prediction.has_masks and people.mask_size is None and len(prediction.points) > 0
        true = math.nan if findings is None else findings.scores.true
        worth = count if findings is None else abs(count - true)
        self._keep(_Shown(worth, -len(self._counts), row, json.dumps(details, separators=(",", ":"))))
        self._counts.append((count, true, height * width / 1e6))

    @property
    def images(self) -> int:
        """How many were taken, those that are left out included."""
        return len(self._counts)

    def _room(self, count: float) -> int:
        """Bytes for the next image: a share of what is left, if nothing is to be dropped; more where it holds more
        people than those before it, for they are small there and need more to be told from each other."""
        others, room = max(1, self._planned - len(self._counts)) - 1, self._limit - self._used
        usual = sum(people for people, _, _ in self._counts) / len(self._counts) if self._counts else count
        weight = min(_WEIGHT, max(1 / _WEIGHT, math.sqrt((count + _FEW) / (usual + _FEW))))
        return max(_LEAST, min(int(weight * room / (others + 1)), room - others * _LEAST))

    def _keep(self, image: _Shown) -> None:
        if self._dropped is not None and image < self._dropped:  # it would come before one of more worth that is large
            return
        heapq.heappush(self._shown, image)
        self._used += image.bytes
        while self._used > self._limit and len(self._shown) > 1:
            self._dropped = heapq.heappop(self._shown)
            self._used -= self._dropped.bytes

    def write(
        self,
        path: Path,
        title: str,
        *,
        about: str = "",
        figures: Sequence[Figure] = (),
        density: Sequence[Sequence[str]] = (),
        notes: Sequence[str] = (),
        state: str = "",
    ) -> None:
        """Write the page to ``path``.

        Args:
            about: where the predictions come from.
            figures: of the whole evaluation.
            density: the errors by how many people there are: people, images, MAE, RMSE, NAE and bias of each range.
            notes: what a reader must know, each a sentence.
            state: what :func:`_state_of` reads again.

        Raises:
            WriteError: the page cannot be written there.
        """
        images = sorted(self._shown, reverse=True)
        page = template("predictions_page.html").render(
            title=title,
            about=about,
            figures=figures,
            density=density,
            notes=[*notes, *self._unread],
            distance=self._distance or "",
            state=state,
            compared=self._compared,
            total=sum(count for count, _, _ in self._counts),
            images=self.images,
            unmasked=sum(image.row["unmasked"] for image in images),
            histograms=self._histograms(),
            data={
                "images": [image.row for image in images],
                "dots": [[true, _number(count), round(true / size, 2)] for count, true, size in self._counts]
                if self._compared
                else [],
                "compared": self._compared,
                "tile": TILE,
                "roles": [role.name for role in Role],
                "scoreSteps": SCORE_STEPS,
            },
            details=[Markup(image.details) for image in images],  # numbers and base64 alone
        )
        files.write_text(path, page)

    def _histograms(self) -> list[Histogram]:
        counts = np.array(self._counts).reshape(-1, 3)
        spreads = [("people found per image", counts[:, 0], 0.0)]
        if self._compared:
            errors = counts[:, 0] - counts[:, 1]
            low = -float(np.abs(errors).max(initial=1))
            spreads = [("true people per image", counts[:, 1], 0.0), ("error: found - true", errors, low)]
        found = [_histogram(*each) for each in spreads]
        return [each for each in found if each is not None]


@contextmanager
def page_beside(
    writer: PredictionWriter, images: Sequence[NamedImage], title: str, about: str
) -> Iterator[Callable[[Prediction, NDArray[np.uint8]], None]]:
    """Gives what hands images on to ``writer`` and to a page; when the block ends, ``page.html`` lies in its folder.

    Where the writer had some of the images before, all are read again for the page, so that it is the one of a single
    call; nothing is, where the page that is there shows the very same. There is none when the block ends by an error:
    the next call draws it.

    Args:
        images: all of the writer's, in their order.
        about: where the predictions come from.
    """
    path, known = writer.folder / PAGE, len(writer.counts())
    if known == len(images) and _state_of(path) == _state(title, about, writer):
        yield writer.add
        return
    files.remove(path)
    page = PredictionsPage(len(images))

    def add(prediction: Prediction, pixels: NDArray[np.uint8]) -> None:
        page.add(prediction, pixels)
        writer.add(prediction, pixels)

    yield writer.add if known else add
    if known:
        finished = {name for name, _ in writer.counts()}
        writer.again([image for image in images if image.name in finished], page.add)
    notes = [f"{len(images) - page.images} of {len(images)} images could not be read and are left out."]
    state = _state(title, about, writer)
    page.write(path, title, about=about, notes=notes[: page.images < len(images)], state=state)


def _state(title: str, about: str, writer: PredictionWriter) -> str:
    """Tells pages apart; settings that the page does not name, and other images of the same names, make another one."""
    content = [title, about, writer.counts(), writer.identities]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _state_of(path: Path) -> str | None:
    """Of what the page at ``path`` was made, None where there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            found = re.search('<meta name="state" content="(.*?)">', file.read(4096))
    except (OSError, ValueError):
        return None
    return found and found[1]


def _people(prediction: Prediction, findings: Findings | None, most: int) -> PackedPeople:
    """With masks as fine as ``most`` bytes allow, or without."""
    roles, missed = (None, None) if findings is None else (findings.roles, findings.missed)
    height, width = prediction.size
    scale = min(1.0, math.sqrt(_MASK_PIXELS / max(1, height * width)))
    masks = prediction.masks() if prediction.has_masks else []
    for _ in range(_COARSENINGS + 1 if masks else 0):
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        packed = pack_people(prediction, masks, size, roles, missed)
        if len(packed.columns) <= most:
            return packed
        scale /= 2
    return pack_people(prediction, masks, None, roles, missed)


def _histogram(name: str, values: NDArray[np.float64], low: float) -> Histogram | None:
    """Of numbers of people in images, from ``low`` on, or from one end to the other where it is below zero: a whole
    number of people a bar, where people are whole."""
    high = max(float(values.max(initial=1)), -low)
    whole = bool((values == np.rint(values)).all())
    if not whole:
        edges = np.linspace(low, high, _BINS + 1)
    elif low < 0:  # the bar in the middle is around no error
        half = math.ceil((2 * high + 1) / _BINS) // 2
        side = np.arange(half + 1, high + 1, 2 * half + 1)
        edges = np.concatenate([[-high], 1 - side[::-1], side, [high + 1]])
    else:
        edges = np.append(np.arange(0, high + 1, math.ceil((high + 1) / _BINS)), high + 1)
    return histogram(name, "", values, edges, ("image", "images"), whole=whole)


def _number(value: float | None) -> float | int | None:
    """Short in JSON: whole numbers as such, others to four places."""
    if value is None:
        return None
    return int(value) if float(value).is_integer() else round(float(value), 4)
