"""From an image of any size to located people with masks: tiles through the network, one map behind it.

Tiles overlap by the network's receptive field and start at multiples of 32, so that each output cell sees in its tile
what it would see in the whole image; each cell, and so each person, is taken from the one tile whose core holds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from crowdseg.config import XMaskConfig
from crowdseg.engine.device import autocast
from crowdseg.errors import UsageError
from crowdseg.methods.pseudo import Detections, detect, person_labels
from crowdseg.models import OUTPUT_STRIDE, Network, Output, normalise, receptive_radius
from crowdseg.models.network import PAD_TO
from crowdseg.structures import Prediction, Size

DEFAULT_TILE = 1024


@dataclass(frozen=True)
class _Tile:
    """Along one axis, in pixels: what the network sees, and the core whose cells are kept."""

    start: int
    end: int
    core_start: int
    core_end: int


def predict_image(
    network: Network,
    image: NDArray[np.uint8],
    settings: XMaskConfig,
    *,
    tile: int = DEFAULT_TILE,
    min_score: float = 0.5,
    masks: bool = True,
    amp: bool = False,
) -> Prediction:
    """People in ``(H, W, 3)`` uint8 RGB whose probability is above ``min_score``, in row order, with exclusive masks.

    Args:
        settings: thresholds of the masks (``eval_*``).
        tile: side of the tiles in pixels; what fits into one tile is done whole.
        masks: whether to draw masks; without them it is faster.
    """
    size: Size = (image.shape[0], image.shape[1])
    output = run_network(network, image, masks, tile=tile, amp=amp)
    people = _inside(detect(output.logits, min_score), size)
    people = people.select(people.probability > min_score)
    labels = None
    if masks:
        assert output.embedding is not None
        labels = person_labels(
            output.embedding,
            people,
            _canvas(size),
            energy_threshold=settings.eval_energy_threshold,
            geometry_weight=settings.eval_geometry_weight,
            sigma=settings.eval_sigma,
        )[0, : size[0], : size[1]]
    return Prediction(
        size=size,
        points=people.points.cpu().double().numpy(),
        scores=people.probability.cpu().numpy(),
        labels=None if labels is None else labels.cpu().numpy().astype(np.int32),
    )


@torch.inference_mode()
def run_network(
    network: Network, image: NDArray[np.uint8], masks: bool, *, tile: int = DEFAULT_TILE, amp: bool = False
) -> Output:
    """Logits ``(1, h, w)`` and embedding ``(1, 16, h, w)`` of the image padded to multiples of 32."""
    device = next(network.parameters()).device
    canvas = _canvas((image.shape[0], image.shape[1]))
    rows, columns = (_tiles(length, tile, _margin(network, canvas, tile)) for length in canvas)
    cells = (canvas[0] // OUTPUT_STRIDE, canvas[1] // OUTPUT_STRIDE)
    logits = torch.empty(1, *cells, device=device)
    embedding = torch.empty(1, 16, *cells, device=device) if masks else None
    for row in rows:
        for column in columns:
            pixels = _pixels(image, row, column, device)
            with autocast(device, amp):
                seen = network(pixels, masks, (row.start, column.start), canvas)
            inner = (..., _core(row), _core(column))
            outer = (..., _cells(row.core_start, row.core_end), _cells(column.core_start, column.core_end))
            logits[outer] = seen.logits[inner].float()
            if embedding is not None:
                embedding[outer] = seen.embedding[inner].float()
    return Output(logits, embedding)


def _canvas(size: Size) -> Size:
    height, width = (-(-length // PAD_TO) * PAD_TO for length in size)
    return height, width


def _margin(network: Network, canvas: Size, tile: int) -> int:
    if max(canvas) <= tile:
        return 0
    if any(isinstance(module, nn.AdaptiveAvgPool2d) for module in network.modules()):
        raise UsageError(
            f"This backbone looks at the whole image at once, so tiles would change what it sees: pass --tile "
            f"{max(canvas)} to do an image of this size whole."
        )
    margin = receptive_radius(network)
    if tile < 2 * margin + PAD_TO:
        raise UsageError(f"--tile {tile} is too small for this network: use at least {2 * margin + PAD_TO}.")
    return margin


def _tiles(length: int, tile: int, margin: int) -> list[_Tile]:
    """Tiles along an axis of ``length`` pixels; cores lie side by side, margins end at the image's rim."""
    if length <= tile:
        return [_Tile(0, length, 0, length)]
    core = (tile - 2 * margin) // PAD_TO * PAD_TO
    starts = range(0, length, core)
    ends = [min(start + core, length) for start in starts]
    return [_Tile(max(a - margin, 0), min(b + margin, length), a, b) for a, b in zip(starts, ends, strict=True)]


def _cells(start: int, end: int) -> slice:
    return slice(start // OUTPUT_STRIDE, end // OUTPUT_STRIDE)


def _core(tile: _Tile) -> slice:
    return _cells(tile.core_start - tile.start, tile.core_end - tile.start)


def _pixels(image: NDArray[np.uint8], row: _Tile, column: _Tile, device: torch.device) -> Tensor:
    """The tile ``(1, 3, H, W)``, normalised, filled at the right and bottom with the mean colour."""
    part = image[row.start : row.end, column.start : column.end]
    pixels = normalise(torch.tensor(part, device=device).permute(2, 0, 1)[None])
    fill = (0, column.end - column.start - part.shape[1], 0, row.end - row.start - part.shape[0])
    return F.pad(pixels, fill)


def _inside(found: Detections, size: Size) -> Detections:
    """Without the cells that lie in the filling."""
    limits = torch.tensor([size[1], size[0]], device=found.points.device)
    return found.select((found.points < limits - 0.5).all(1))
