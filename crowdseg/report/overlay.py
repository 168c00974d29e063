"""Masks, points and density drawn over a photograph, legible for a few people and for ten thousand.

Drawn person by person into the picture: memory goes by the picture, not by the number of people.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowdseg import rle
from crowdseg.structures import RLE, LabelMap, Points, Size

Picture = NDArray[np.uint8]

LAYERS = ("points", "masks", "outlines", "density")  # masks are tinted and outlined

# Twelve light, saturated colours, well apart in hue; neighbours take different ones.
_COLOURS = np.array(
    [
        (255, 89, 94), (54, 197, 240), (255, 202, 58), (160, 108, 255), (138, 201, 38), (255, 146, 43),
        (0, 214, 170), (255, 112, 197), (90, 140, 255), (214, 255, 94), (255, 160, 150), (120, 255, 230),
    ],
    np.float32,
)  # fmt: skip
_FILL, _EDGE = 0.42, 0.9
_HEAT = 0.75  # opacity where the crowd is densest
_HEAT_CELLS = 512  # along the longer side
_STRIP = 256  # rows that are blended at a time


def draw_overlay(
    image: NDArray[np.uint8],
    masks: LabelMap | list[RLE] | None = None,
    points: Points | None = None,
    *,
    layers: Collection[str] = ("points", "masks"),
    scores: NDArray[np.float32] | None = None,
    min_side: int = 480,
) -> Picture:
    """Tint each person's mask, outline it, and mark each point, or what else ``layers`` asks for.

    Args:
        image: ``(H, W, 3)`` RGB.
        masks: ``(H, W)`` label map, n + 1 for the n-th person, or a mask for each.
        points: ``(N, 2)`` as (x, y) in pixels.
        layers: of :data:`LAYERS`; those of which nothing is given are left out.
        scores: ``(N,)`` in [0, 1]; points fade with a low score.
        min_side: smaller images are enlarged by a whole factor until their long side reaches this.

    Returns:
        ``(k H, k W, 3)`` with a whole k >= 1.
    """
    zoom = max(1, -(-min_side // max(image.shape[:2])))
    picture = _enlarged(image, zoom) if zoom > 1 else image.copy()
    places = np.zeros((0, 2)) if points is None else (np.asarray(points, np.float64) + 0.5) * zoom - 0.5
    if "density" in layers and len(places):
        _heat(picture, places)
    if masks is not None and ("masks" in layers or "outlines" in layers):
        codes = masks if isinstance(masks, list) else rle.from_label_map(masks, int(masks.max(initial=0)))
        _draw_masks(picture, codes, zoom, _FILL if "masks" in layers else 0.0)
    if "points" in layers and len(places):
        _mark(picture, places, np.ones(len(places)) if scores is None else np.asarray(scores, np.float64))
    return picture


def _enlarged(pixels: NDArray, zoom: int) -> NDArray:
    return np.repeat(np.repeat(pixels, zoom, axis=0), zoom, axis=1)


def _draw_masks(picture: Picture, masks: list[RLE], zoom: int, fill: float) -> None:
    """Tint with opacity ``fill``, and outline."""
    chosen = np.zeros((picture.shape[0] // zoom, picture.shape[1] // zoom), np.uint8)  # colour + 1 of each pixel
    for number, (x0, y0, pixels) in enumerate(rle.crops(masks)):
        if pixels.size:
            colour = _COLOURS[_choose(chosen, number, x0, y0, pixels)]
            inside = _enlarged(pixels, zoom)
            window = picture[y0 * zoom :, x0 * zoom :][: inside.shape[0], : inside.shape[1]]
            _blend(window, inside, colour, fill)
            _blend(window, _edge(inside), colour, _EDGE)


def _choose(chosen: NDArray[np.uint8], number: int, x0: int, y0: int, pixels: NDArray[np.bool_]) -> int:
    """A colour that no mask close by has, as far as they are drawn already; noted in ``chosen``."""
    height, width = pixels.shape
    reach = 2 + (height + width) // 4
    near = chosen[max(0, y0 - reach) : y0 + height + reach, max(0, x0 - reach) : x0 + width + reach]
    taken = np.bincount(near.ravel(), minlength=len(_COLOURS) + 1)[1:] > 0
    start = (number + 1) * 5 % len(_COLOURS)  # a stride through the palette, so that all colours are used
    order = (start + np.arange(len(_COLOURS))) % len(_COLOURS)
    colour = int(order[np.argmin(taken[order])])
    chosen[y0 : y0 + height, x0 : x0 + width][pixels] = colour + 1
    return colour


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask that have a neighbour outside it."""
    padded = np.pad(inside, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~inner


def _blend(window: Picture, where: NDArray[np.bool_], colour: NDArray[np.float32], opacity: float) -> None:
    window[where] = np.rint(window[where] * (1 - opacity) + colour * opacity)


def _heat(picture: Picture, places: NDArray[np.float64]) -> None:
    """People per area, from clear to opaque: relative to where the picture is densest."""
    from matplotlib import colormaps  # by this layer alone: it takes a tenth of a second

    height, width = picture.shape[:2]
    density = _density(places, (height, width))
    colours = (colormaps["turbo"](0.2 + 0.75 * density)[..., :3] * 255).astype(np.uint8)
    heat = Image.fromarray(np.dstack([colours, (255 * _HEAT * np.sqrt(density)).astype(np.uint8)]))
    for top in range(0, height, _STRIP):
        rows = min(_STRIP, height - top)
        box = (0, top * heat.height / height, heat.width, (top + rows) * heat.height / height)
        part = np.asarray(heat.resize((width, rows), Image.Resampling.BILINEAR, box=box), np.float32)
        opacity = part[..., 3:] / 255
        strip = picture[top : top + rows]
        strip[:] = np.rint(strip * (1 - opacity) + part[..., :3] * opacity)


def _density(places: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """People per area in coarse cells, in [0, 1]; a person is spread as wide as neighbours usually stand apart."""
    cell = max(1.0, max(size) / _HEAT_CELLS)
    cells = [max(1, round(length / cell)) for length in size]
    people = np.histogram2d(places[:, 1], places[:, 0], cells, [(-0.5, length - 0.5) for length in size])[0]
    spread = np.clip(1.5 * np.median(_room(places)), max(size) / 100, max(size) / 16) / cell
    for _ in range(2):  # along the rows, then along the columns
        steps = np.arange(people.shape[0])
        people = (np.exp(-0.5 * ((steps[:, None] - steps) / spread) ** 2) @ people).T
    return people / people.max()


def _room(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N,)`` distance to the nearest other point, infinity for a lone one."""
    import torch

    from crowdseg.ops import nearest_neighbor_radii

    return nearest_neighbor_radii(torch.from_numpy(places), min_radius=0.0).numpy()


def _mark(picture: Picture, places: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
    """White dots with a dark rim, as large as the room between points allows."""
    height, width = picture.shape[:2]
    sizes = np.clip(_room(places) / 7, 0.9, max(2.0, max(height, width) / 350))
    for (x, y), size, score in zip(places, sizes, scores, strict=True):
        reach = int(np.ceil(size + 2))
        rows = slice(max(0, int(y) - reach), min(height, int(y) + reach + 1))
        columns = slice(max(0, int(x) - reach), min(width, int(x) + reach + 1))
        right, below = np.arange(columns.start, columns.stop)[None] - x, np.arange(rows.start, rows.stop)[:, None] - y
        distance = np.hypot(right, below)[..., None]
        opacity = 0.35 + 0.65 * float(np.clip(score, 0, 1))
        rim, dot = (opacity * np.clip(size + grow - distance, 0, 1) for grow in (1.4, 0.4))
        area = picture[rows, columns] * (1 - 0.7 * rim)
        picture[rows, columns] = np.rint(area * (1 - dot) + 255 * dot)
