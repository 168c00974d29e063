"""Backgrounds of synthetic scenes: ground in perspective, a far wall, and things that are not people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowdseg.structures import Size

Picture = NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]


@dataclass(frozen=True)
class Camera:
    """Looks down on flat ground: a person's height in pixels grows linearly with the image row of the head.

    Attributes:
        horizon: the row where heights would be 0; may be above the image.
        slope: pixels of height per row.
        smallest, tallest: bounds of the height in pixels.
    """

    horizon: float
    slope: float
    smallest: float
    tallest: float

    def height(self, row: NDArray | float) -> NDArray:
        """Height in pixels of a standing person whose head's centre is on ``row``."""
        return np.clip(self.slope * (np.asarray(row, np.float64) - self.horizon), self.smallest, self.tallest)

    def edge(self, size: Size) -> int:
        """The first row on which people still have their smallest height; above it nobody stands."""
        return int(np.clip(self.horizon + self.smallest / self.slope, 0, size[0] * 0.4))


def noise(rng: np.random.Generator, size: Size, cell: float, amount: float) -> NDArray[np.float32]:
    """Smooth noise ``(H, W)`` of standard deviation about ``amount``, features about ``cell`` pixels wide."""
    shape = (max(2, round(size[0] / cell) + 1), max(2, round(size[1] / cell) + 1))
    coarse = rng.normal(0, amount, shape).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def draw_background(rng: np.random.Generator, size: Size, camera: Camera) -> Picture:
    """Ground, wall and clutter of one scene."""
    picture = _ground(rng, size, camera)
    edge = camera.edge(size)
    if edge > 0:
        picture[:edge] = _wall(rng, (edge, size[1]))
    for _ in range(int(rng.integers(6, 16))):
        _draw_thing(rng, picture, camera, edge)
    grain = noise(rng, size, 40, 0.035) + noise(rng, size, 6, 0.02) + noise(rng, size, 1.5, 0.02)
    return np.clip(picture * (1 + noise(rng, size, 90, 0.06)[..., None]) + grain[..., None], 0, 1)


def _ground(rng: np.random.Generator, size: Size, camera: Camera) -> Picture:
    base = np.array([[0.47, 0.46, 0.45], [0.60, 0.56, 0.50], [0.36, 0.42, 0.27], [0.33, 0.34, 0.36]], np.float32)
    picture = np.ones((*size, 3), np.float32) * rng.choice(base) * np.float32(rng.uniform(0.8, 1.15))
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    scale = camera.height(rows).astype(np.float32)
    across = (columns - size[1] * np.float32(rng.uniform(0.2, 0.8))) / scale  # metres, roughly, on the ground
    away = np.float32(camera.tallest * 3) / scale
    tile, joint = rng.uniform(0.35, 1.2), rng.uniform(0.03, 0.09)
    cells = (np.floor(across / tile) * 7 + np.floor(away / tile) * 13).astype(int) % 11
    picture *= (1 + np.float32(rng.uniform(0.005, 0.03)) * (cells - 5) / 2)[..., None].astype(np.float32)
    if rng.random() < 0.6:
        lines = ((across / tile) % 1 < joint) | ((away / tile) % 1 < joint)
        picture[lines] *= np.float32(rng.uniform(0.75, 0.95))
    return picture


def _wall(rng: np.random.Generator, size: Size) -> Picture:
    """A facade with rows of windows, or trees in front of the sky."""
    if rng.random() < 0.4:
        blend = np.clip(np.linspace(-1, 1.6, size[0])[:, None] + noise(rng, size, 14, 0.7), 0, 1)[..., None]
        sky, leaves = np.array([0.75, 0.80, 0.86], np.float32), np.array([0.20, 0.28, 0.15], np.float32)
        return (sky * (1 - blend) + leaves * blend * (1 + noise(rng, size, 3, 0.35)[..., None])).astype(np.float32)
    wall = np.ones((*size, 3), np.float32) * (rng.uniform(0.35, 0.75) + rng.normal(0, 0.05, 3)).astype(np.float32)
    step_x, step_y = rng.integers(14, 40), rng.integers(14, 34)
    rows, columns = np.arange(size[0]) % step_y, np.arange(size[1]) % step_x
    window = (rows[:, None] > step_y * 0.4) & (columns[None] > step_x * 0.35)
    panes = rng.uniform(0.15, 0.6, (size[0] // step_y + 1, size[1] // step_x + 1)).astype(np.float32)
    shade = panes[np.arange(size[0])[:, None] // step_y, np.arange(size[1])[None] // step_x]
    return np.where(window[..., None], shade[..., None] * np.array([0.8, 0.95, 1.1], np.float32), wall)


def _draw_thing(rng: np.random.Generator, picture: Picture, camera: Camera, edge: int) -> None:
    """A post, a box, a ball or a bush standing on the ground; round things the size of a head are meant to mislead."""
    height, width = picture.shape[:2]
    foot, x = rng.uniform(edge, height), rng.uniform(0, width)
    unit = float(camera.height(foot))
    half, tall = {
        "post": (unit * 0.03, unit * rng.uniform(1.2, 2.2)),
        "box": (unit * rng.uniform(0.1, 0.4), unit * rng.uniform(0.2, 0.6)),
        "ball": (unit * rng.uniform(0.05, 0.09), 0.0),
        "bush": (unit * rng.uniform(0.15, 0.5), 0.0),
    }[kind := str(rng.choice(["post", "post", "box", "ball", "ball", "bush"]))]
    half = max(half, 0.8)
    tall = max(tall, 2 * half)
    top, left = max(0, int(foot - tall)), max(0, int(x - half))
    part = picture[top : int(foot) + 1, left : int(x + half) + 1]
    if not part.size:
        return
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]].astype(np.float32)
    u, v = (columns + left - x) / half, (rows + top - foot + half) / half
    inside = np.ones(u.shape, bool) if kind in ("post", "box") else u**2 + v**2 < 1
    colour = rng.uniform(0.1, 0.8) + rng.normal(0, 0.12, 3) if kind != "bush" else np.array([0.2, 0.3, 0.14])
    shading = 1 - 0.3 * u - (0.15 * v if kind in ("ball", "bush") else 0)
    texture = 1 + (noise(rng, u.shape, 2.5, 0.25) if kind == "bush" else 0)
    part[inside] = np.clip(colour * (shading * texture)[..., None], 0, 1)[inside]
