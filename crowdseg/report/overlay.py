"""Masks, points and density drawn over a photograph, legible for a few people and for ten thousand.

Drawn into the picture part by part: memory goes by the picture, not by the number of people.
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
_AT_ONCE = 1 << 20  # pixels of masks, or of dots, that are blended at a time
_CELL = 8  # pixels, to which it is noted where which colours are


def draw_overlay(
    image: NDArray[np.uint8],
    masks: LabelMap | list[RLE] | None = None,
    points: Points | None = None,
    *,
    layers: Collection[str] = ("points", "masks"),
    scores: NDArray[np.float32] | None = None,
    min_side: int = 480,
    in_place: bool = False,
) -> Picture:
    """Tint each person's mask, outline it, and mark each point, or what else ``layers`` asks for.

    Args:
        image: ``(H, W, 3)`` RGB.
        masks: ``(H, W)`` label map, n + 1 for the n-th person, or a mask for each.
        points: ``(N, 2)`` as (x, y) in pixels.
        layers: of :data:`LAYERS`; those of which nothing is given are left out.
        scores: ``(N,)`` in [0, 1]; points fade with a low score.
        min_side: smaller images are enlarged by a whole factor until their long side reaches this.
        in_place: draw into ``image`` itself where it is not enlarged and may be written: a large one is not copied.

    Returns:
        ``(k H, k W, 3)`` with a whole k >= 1.
    """
    zoom = max(1, -(-min_side // max(image.shape[:2])))
    if zoom > 1:
        picture = _enlarged(image, zoom)
    else:
        picture = image if in_place and image.flags.writeable else np.array(image)
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
    return pixels if zoom == 1 else np.repeat(np.repeat(pixels, zoom, axis=0), zoom, axis=1)


def _draw_masks(picture: Picture, masks: list[RLE], zoom: int, fill: float) -> None:
    """Tint with opacity ``fill``, and outline. Of masks that overlap the smaller is on top."""
    size = (picture.shape[0] // zoom, picture.shape[1] // zoom)
    colours = np.concatenate([np.zeros((1, 3), np.float32), _COLOURS[_choose(rle.boxes(masks), size)]])
    opacity = np.array([fill, 1 - (1 - fill) * (1 - _EDGE)], np.float32)  # an outline lies on the tint
    pixels = picture.reshape(-1, 3)
    for left, labels in rle.label_strips(masks, size, max(1, _AT_ONCE // size[0])):
        edge = _edge(_enlarged(labels, zoom))[:, zoom:-zoom]
        labels = _enlarged(labels[:, 1:-1], zoom)
        place = np.flatnonzero(labels)
        y, x = np.divmod(place, labels.shape[1])
        where, opaque = y * picture.shape[1] + x + left * zoom, opacity[edge.ravel()[place].astype(int), None]
        below = pixels[where]
        pixels[where] = np.rint(below + (colours[labels.ravel()[place]] - below) * opaque)


def _choose(boxes: NDArray[np.float64], size: Size) -> NDArray[np.int64]:
    """A colour for each mask, ``(N,)``, that none close by has, as far as they have got theirs."""
    cells = np.zeros((size[0] // _CELL + 1, size[1] // _CELL + 1), np.int64)  # bits of the colours of each cell's masks
    reach = 2 + (boxes[:, 2:] - boxes[:, :2]).sum(1)[:, None] / 4
    near = np.concatenate([np.maximum(boxes[:, :2] - reach, 0), boxes[:, 2:] + reach], 1) // _CELL
    own = boxes // _CELL
    colours = np.zeros(len(boxes), np.int64)
    for number, ((x0, y0, x1, y1), (a0, b0, a1, b1)) in enumerate(
        zip(own.astype(int).tolist(), near.astype(int).tolist(), strict=True)
    ):
        taken = int(np.bitwise_or.reduce(cells[b0 : b1 + 1, a0 : a1 + 1], axis=None))
        start = (number + 1) * 5  # a stride through the palette, so that all colours are used
        order = ((start + step) % len(_COLOURS) for step in range(len(_COLOURS)))
        colours[number] = next((colour for colour in order if not taken >> colour & 1), start % len(_COLOURS))
        cells[y0 : y1 + 1, x0 : x1 + 1] |= 1 << colours[number]
    return colours


def _edge(labels: LabelMap) -> NDArray[np.bool_]:
    """The pixels that have a neighbour of another label; above and below the picture nobody is."""
    edge = np.zeros(labels.shape, bool)
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        apart = one != other
        edge[-apart.shape[0] :, -apart.shape[1] :] |= apart
        edge[: apart.shape[0], : apart.shape[1]] |= apart
    edge[[0, -1]] = True
    return edge


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
    reach = int(np.ceil(sizes.max() + 2))
    down, right = (each.ravel() for each in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    pixels = picture.reshape(-1, 3)
    at_once = max(1, _AT_ONCE // len(down))
    for start in range(0, len(places), at_once):
        part = slice(start, start + at_once)
        x, y = (places[part, axis, None].astype(int) + offset for axis, offset in ((0, right), (1, down)))
        distance = np.hypot(x - places[part, :1], y - places[part, 1:])
        opacity, size = 0.35 + 0.65 * scores[part, None].clip(0, 1), sizes[part, None]
        rim, dot = (opacity * np.clip(size + grow - distance, 0, 1) for grow in (1.4, 0.4))
        seen = (rim > 0) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
        order = np.argsort((rim + dot)[seen])[::-1]  # where dots overlap the surest pixel counts
        where, first = np.unique((y * width + x)[seen][order], return_index=True)
        rim, dot = (each[seen][order][first, None] for each in (rim, dot))
        pixels[where] = np.rint(pixels[where] * (1 - 0.7 * rim) * (1 - dot) + 255 * dot)
