"""Drawing one person of a synthetic scene: soft shapes around the head's centre, in units of the person's height."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowdseg.data.scenery import Picture, noise

HEAD = (0.055, 0.070)  # half width and half height of the head
_SKIN = np.array([[0.95, 0.80, 0.69], [0.87, 0.67, 0.53], [0.72, 0.51, 0.37], [0.50, 0.34, 0.24], [0.33, 0.22, 0.16]])
_HAIR = np.array([[0.07, 0.06, 0.05], [0.16, 0.11, 0.07], [0.32, 0.22, 0.13], [0.62, 0.50, 0.32], [0.60, 0.59, 0.58]])
_HAIR_SHARE = (0.42, 0.28, 0.15, 0.08, 0.07)

Field = NDArray[np.float32]  # (h, w) over the patch a person is drawn in


@dataclass(frozen=True)
class Look:
    """What a person wears and how they stand; lengths in units of their height, colours RGB in [0, 1]."""

    skin: NDArray
    hair: NDArray
    top: NDArray
    bottom: NDArray
    accent: NDArray  # stripes, hat or bag
    pattern: str  # "plain", "stripes" or "checks"
    hat: bool
    bag: float  # side (-1 or 1), 0 without
    facing: float  # -1 away from the camera (only hair is seen) ... 1 towards it
    build: float  # width of the body
    arms: tuple[float, float]  # how far the hands are from the body
    stride: float  # half distance of the feet
    light: float  # side that the light comes from


def random_look(rng: np.random.Generator, light: float) -> Look:
    return Look(
        skin=np.clip(rng.choice(_SKIN) * rng.uniform(0.9, 1.1), 0, 1),
        hair=rng.choice(_HAIR, p=_HAIR_SHARE) * rng.uniform(0.8, 1.2),
        top=_cloth(rng),
        bottom=_cloth(rng) * 0.7,
        accent=_cloth(rng),
        pattern=str(rng.choice(["plain", "stripes", "checks"], p=[0.65, 0.25, 0.1])),
        hat=bool(rng.random() < 0.12),
        bag=float(rng.choice([-1, 0, 1], p=[0.1, 0.8, 0.1])),
        facing=float(rng.uniform(-1, 1)),
        build=float(rng.uniform(0.85, 1.2)),
        arms=(float(rng.uniform(0, 0.06)), float(rng.uniform(0, 0.06))),
        stride=float(rng.uniform(0.02, 0.07)),
        light=light,
    )


def _cloth(rng: np.random.Generator) -> NDArray:
    """Mostly greys, blacks, whites and blues; some loud colours."""
    if rng.random() < 0.45:
        return np.clip(rng.choice([0.08, 0.15, 0.3, 0.6, 0.9]) * rng.uniform(0.8, 1.1) + rng.normal(0, 0.02, 3), 0, 1)
    hue = rng.normal(0.61, 0.05) if rng.random() < 0.4 else rng.random()
    return np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.15, 0.7), rng.uniform(0.2, 0.9)))


def draw_person(
    rng: np.random.Generator,
    picture: Picture,
    labels: NDArray[np.int32],
    label: int,
    point: tuple[float, float],
    height: float,
    look: Look,
) -> None:
    """Draw over what is there, in place: colours into ``picture``, ``label`` where the person covers half a pixel.

    ``point`` is the head's centre ``(x, y)`` and ``height`` the whole person's, in pixels.
    """
    x, y = point
    top, bottom = max(0, int(y - 0.12 * height - 1)), min(labels.shape[0], int(y + 0.98 * height + 2))
    left, right = max(0, int(x - 0.28 * height - 1)), min(labels.shape[1], int(x + 0.28 * height + 2))
    rows, columns = np.ogrid[top:bottom, left:right]
    u, v = ((columns - x) / height).astype(np.float32), ((rows - y) / height).astype(np.float32)
    window = (slice(top, bottom), slice(left, right))
    figure = _figure(rng, u, v, height, look)
    cover = figure[..., 3:]
    ground = _coverage(np.hypot(u / 0.2, (v - 0.92) / 0.045) - 1, 4)[..., None] * (1 - cover)
    picture[window] = picture[window] * (1 - 0.35 * ground) * (1 - cover) + figure[..., :3]
    labels[window][cover[..., 0] > 0.5] = label


def _figure(rng: np.random.Generator, u: Field, v: Field, height: float, look: Look) -> Picture:
    """The whole person over the patch of coordinates ``u, v``: ``(h, w, 4)`` colours times coverage, and coverage."""
    size = (v.shape[0], u.shape[1])
    canvas = np.zeros((*size, 4), np.float32)

    def paint(distance: Field, colour: NDArray) -> None:
        opaque = np.ones((*colour.shape[:-1], 4), np.float32)
        opaque[..., :3] = colour
        canvas[:] += _coverage(distance, height)[..., None] * (opaque - canvas)

    wide = look.build
    for side in (-1, 1):
        foot = (side * look.stride, 0.90)
        leg = _capsule(u, v, (side * 0.045 * wide, 0.45), foot, 0.042 * wide)
        paint(leg, look.bottom * (0.9 + 0.1 * side * look.light))
    paint(_torso(u, v, wide), _top_colours(u, v, look))
    for side, reach in zip((-1, 1), look.arms, strict=True):
        shoulder, hand = (side * 0.108 * wide, 0.135), (side * (0.125 * wide + reach), 0.40)
        paint(_capsule(u, v, shoulder, hand, 0.030 * wide), look.top * (0.82 + 0.1 * side * look.light))
        paint(_capsule(u, v, hand, (hand[0], 0.44), 0.022), look.skin * 0.9)
    if look.bag:
        paint(_box(u, v, (look.bag * 0.14 * wide, 0.40), (0.055, 0.075)), look.accent * 0.8)
    paint(_capsule(u, v, (0, 0.04), (0, 0.09), 0.026), look.skin * 0.75)
    paint(_ellipse(u, v, (0, 0), HEAD), look.skin)
    paint(_hair(u, v, look.facing), look.hair)
    if look.hat:
        paint(np.maximum(_ellipse(u, v, (0, -0.02), (0.066, 0.062)), v + 0.02), look.accent)
    shading = 1 - 0.9 * look.light * u - 0.12 * np.maximum(v, 0)
    texture = 1 + noise(rng, size, max(1.5, height * 0.04), 0.07)
    canvas[..., :3] = np.minimum(canvas[..., :3] * (shading * texture)[..., None], canvas[..., 3:])
    return canvas


def _top_colours(u: Field, v: Field, look: Look) -> Picture:
    """The shirt: darker towards its sides, striped or checked."""
    accent = np.zeros(np.broadcast_shapes(u.shape, v.shape), bool)
    if look.pattern != "plain":
        accent |= np.broadcast_to((v / 0.05) % 1 < 0.45, accent.shape)
    if look.pattern == "checks":
        accent ^= np.broadcast_to((u / 0.05) % 1 < 0.45, accent.shape)
    colours = np.where(accent[..., None], look.accent, look.top)
    return (colours * (1 - 0.35 * np.minimum(np.abs(u) / 0.13, 1) ** 2)[..., None]).astype(np.float32)


def _coverage(distance: Field, height: float) -> Field:
    """Signed distance in units of the height (negative inside) -> how much of each pixel is covered."""
    return np.minimum(np.maximum(0.5 - distance * np.float32(height), 0), 1)  # much faster than clip on small patches


def _ellipse(u: Field, v: Field, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
    return (np.hypot((u - centre[0]) / radii[0], (v - centre[1]) / radii[1]) - 1) * min(radii)


def _box(u: Field, v: Field, centre: tuple[float, float], half: tuple[float, float]) -> Field:
    return np.maximum(np.abs(u - centre[0]) - half[0], np.abs(v - centre[1]) - half[1])


def _capsule(u: Field, v: Field, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
    du, dv = end[0] - start[0], end[1] - start[1]
    across, down = u - start[0], v - start[1]
    along = np.minimum(np.maximum((across * du + down * dv) / (du * du + dv * dv), 0), 1)
    return np.hypot(across - along * du, down - along * dv) - np.float32(radius)


def _torso(u: Field, v: Field, wide: float) -> Field:
    """From round shoulders at 0.09 to the hips at 0.48, tapering."""
    half = wide * (0.118 - 0.08 * np.clip(v - 0.12, 0, 0.4))
    shoulders = _ellipse(u, v, (0, 0.16), (0.125 * wide, 0.075))
    return np.minimum(np.maximum(np.abs(u) - half, np.abs(v - 0.315) - 0.165), shoulders)


def _hair(u: Field, v: Field, facing: float) -> Field:
    """A cap over the top of the head that comes down to the neck on those who look away."""
    line = -0.02 - 0.025 * facing if facing > 0 else -0.02 - 0.09 * facing
    return np.maximum(_ellipse(u, v, (0, -0.004), (0.060, 0.073)), v - line)
