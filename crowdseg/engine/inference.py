"""From images of any size to located people with masks: tiles through the network, one map behind it.

Tiles overlap by the network's receptive field and start at multiples of 32, so that each output cell sees in its tile
what it would see in the whole image; each cell, and so each person, is taken from the one tile whose core holds it.
Masks are drawn strip by strip and kept as run lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crowdseg import rle
from crowdseg.config import XMaskConfig
from crowdseg.engine.device import autocast
from crowdseg.engine.memory import OutOfMemory
from crowdseg.engine.room import DEFAULT_TILE, Plan, canvas_of, check_tile, smallest_tile
from crowdseg.memory import return_freed_memory
from crowdseg.methods.pseudo import Detections, circle_radii, detect, person_labels, person_labels_of_columns
from crowdseg.models import OUTPUT_STRIDE, Network, Output, normalise
from crowdseg.models.network import PAD_TO
from crowdseg.structures import Prediction, Size

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True)
class _Tile:
    """Along one axis, in pixels: what the network sees, and the core whose cells are kept."""

    start: int
    end: int
    core_start: int
    core_end: int


def predict_image(
    network: Network,
    image: Pixels,
    settings: XMaskConfig,
    *,
    plan: Plan = Plan(),
    min_score: float = 0.5,
    masks: bool = True,
    amp: bool = False,
) -> Prediction:
    """People in ``(H, W, 3)`` uint8 RGB whose probability is above ``min_score``, in row order, with exclusive masks.

    Args:
        settings: thresholds of the masks (``eval_*``).
        plan: the tiles, and how much is drawn at once; what fits into one tile is done whole.
        masks: whether to draw masks; without them it is faster.
    """
    return predict_together(network, [image], settings, plan=plan, min_score=min_score, masks=masks, amp=amp)[0]


def predict_together(
    network: Network,
    images: Sequence[Pixels],
    settings: XMaskConfig,
    *,
    plan: Plan = Plan(),
    min_score: float = 0.5,
    masks: bool = True,
    amp: bool = False,
) -> list[Prediction]:
    """:func:`predict_image` of images that fill the same canvas (:func:`~.room.canvas_of`), in one batch."""
    output = run_network(network, images, masks, tile=plan.tile, amp=amp)
    found = detect(output.logits, min_score)
    predictions = []
    for index, image in enumerate(images):
        size: Size = (image.shape[0], image.shape[1])
        people = _inside(found.select(found.batch_index == index), size)
        people = people.select(people.probability > min_score)
        people.batch_index = torch.zeros_like(people.batch_index)
        drawn = {} if output.embedding is None else _draw(output.embedding[index, None], people, size, settings, plan)
        points, scores = people.points.cpu().double().numpy(), people.probability.cpu().numpy()
        predictions.append(Prediction(size=size, points=points, scores=scores, **drawn))
    return predictions


def _draw(embedding: Tensor, people: Detections, size: Size, settings: XMaskConfig, plan: Plan) -> dict[str, Any]:
    """The masks as fields of a :class:`Prediction`: a label map of an image that is drawn at once, else RLE."""
    canvas = canvas_of(size)
    radii = circle_radii(people.points, people.batch_index, canvas)
    thresholds: dict[str, Any] = {
        "energy_threshold": settings.eval_energy_threshold,
        "geometry_weight": settings.eval_geometry_weight,
        "sigma": settings.eval_sigma,
    }
    width = max(plan.strip // canvas[0], PAD_TO)
    if canvas[1] <= width:
        labels = person_labels(embedding, people, canvas, radii=radii, **thresholds)[0, : size[0], : size[1]]
        return {"labels": labels.cpu().numpy()}

    strips: list[rle.Runs] = []
    waiting = [(start, min(start + width, size[1])) for start in range(0, size[1], width)][::-1]
    while waiting:
        start, end = waiting.pop()
        try:
            labels, near = person_labels_of_columns(
                embedding, people, radii, canvas, (start, end), plan.most, **thresholds
            )
        except OverflowError as error:
            if end - start <= PAD_TO:
                raise OutOfMemory(
                    f"The masks of people who stand far from all others take more memory than may be taken ({error}): "
                    "raise --max-memory, or pass --count-only."
                ) from error
            middle = (start + end) // 2
            waiting += [(middle, end), (start, middle)]
        else:
            owner, first, past = rle.runs_of_labels(labels[: size[0]].cpu().numpy(), start)
            strips.append((near.cpu().numpy()[owner], first, past))
    return {"rles": rle.from_runs(rle.joined(strips), len(people.points), size), "exclusive": True}


@torch.inference_mode()
def run_network(
    network: Network, images: Pixels | Sequence[Pixels], masks: bool, *, tile: int = DEFAULT_TILE, amp: bool = False
) -> Output:
    """Logits ``(B, h, w)`` and embedding ``(B, 16, h, w)`` of images filled up to the same multiples of 32."""
    images = [images] if isinstance(images, np.ndarray) else images
    device = next(network.parameters()).device
    canvas = canvas_of((images[0].shape[0], images[0].shape[1]))
    check_tile(network, canvas, tile)
    rows, columns = (_tiles(length, tile, _margin(network, canvas, tile)) for length in canvas)

    def see(row: _Tile, column: _Tile) -> Output:
        parts = [_pixels(image, row, column, device) for image in images]
        pixels = torch.cat(parts) if len(parts) > 1 else parts[0]
        parts.clear()
        with autocast(device, amp):
            seen = network(pixels, masks, (row.start, column.start), canvas)
        return Output(seen.logits.float(), None if seen.embedding is None else seen.embedding.float())

    if len(rows) * len(columns) == 1:
        return see(rows[0], columns[0])
    cells = (canvas[0] // OUTPUT_STRIDE, canvas[1] // OUTPUT_STRIDE)
    logits = torch.empty(len(images), *cells, device=device)
    embedding = torch.empty(len(images), 16, *cells, device=device) if masks else None
    for row in rows:
        for column in columns:
            seen = see(row, column)
            inner = (..., _core(row), _core(column))
            outer = (..., _cells(row.core_start, row.core_end), _cells(column.core_start, column.core_end))
            logits[outer] = seen.logits[inner]
            if embedding is not None and seen.embedding is not None:
                embedding[outer] = seen.embedding[inner]
    del seen  # the tiles' memory, which drawing takes in other pieces
    return_freed_memory()
    return Output(logits, embedding)


def _margin(network: Network, canvas: Size, tile: int) -> int:
    return 0 if max(canvas) <= tile else int(smallest_tile(network) - PAD_TO) // 2


def _tiles(length: int, tile: int, margin: int) -> list[_Tile]:
    """Tiles along an axis of ``length`` pixels; cores of about the same length lie side by side, margins end at the
    image's rim."""
    if length <= tile:
        return [_Tile(0, length, 0, length)]
    largest = (tile - 2 * margin) // PAD_TO * PAD_TO
    number = -(-length // largest)
    core = -(-length // (number * PAD_TO)) * PAD_TO
    starts = range(0, length, core)
    ends = [min(start + core, length) for start in starts]
    return [_Tile(max(a - margin, 0), min(b + margin, length), a, b) for a, b in zip(starts, ends, strict=True)]


def _cells(start: int, end: int) -> slice:
    return slice(start // OUTPUT_STRIDE, end // OUTPUT_STRIDE)


def _core(tile: _Tile) -> slice:
    return _cells(tile.core_start - tile.start, tile.core_end - tile.start)


def _pixels(image: Pixels, row: _Tile, column: _Tile, device: torch.device) -> Tensor:
    """The tile ``(1, 3, H, W)``, normalised, filled at the right and bottom with the mean colour."""
    part = np.ascontiguousarray(image[row.start : row.end, column.start : column.end])  # an image may be turned
    pixels = normalise(torch.tensor(part, device=device).permute(2, 0, 1)[None])
    fill = (0, column.end - column.start - part.shape[1], 0, row.end - row.start - part.shape[0])
    return F.pad(pixels, fill) if any(fill) else pixels


def _inside(found: Detections, size: Size) -> Detections:
    """Without the cells that lie in the filling."""
    limits = torch.tensor([size[1], size[0]], device=found.points.device)
    return found.select((found.points < limits - 0.5).all(1))
