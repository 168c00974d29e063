"""Crops and augmentation of image, points and labels together (spec section 9). All randomness comes from ``rng``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from crowdseg.structures import LabelMap, Points

FILL = (124, 116, 104)  # ImageNet's mean colour: zero after normalisation


@dataclass
class Crop:
    """A square crop: image ``(S, S, 3)`` uint8, the points that lie in it ``(N, 2)``, labels ``(S, S)`` or None."""

    image: NDArray[np.uint8]
    points: Points
    labels: LabelMap | None


def random_crop(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    points: Points,
    labels: LabelMap | None,
    *,
    side: int,
    scale: tuple[float, float],
) -> Crop:
    """Scale by U(scale), cut ``side`` x ``side`` (small images are filled at the right and bottom), flip."""
    factor = rng.uniform(*scale)
    height, width = image.shape[:2]
    window = int(np.ceil(side / factor))
    y0 = int(rng.integers(0, max(height - window, 0) + 1))
    x0 = int(rng.integers(0, max(width - window, 0) + 1))
    cut = np.s_[y0 : y0 + window, x0 : x0 + window]
    cut_height, cut_width = image[cut].shape[:2]
    new = min(side, max(1, round(cut_width * factor))), min(side, max(1, round(cut_height * factor)))  # (w, h), as PIL

    resized = np.empty((side, side, 3), np.uint8)
    resized[:] = FILL
    small = Image.fromarray(image[cut]).resize(new, Image.Resampling.BILINEAR, reducing_gap=2.0)
    resized[: new[1], : new[0]] = np.asarray(small)
    new_labels = None
    if labels is not None:
        new_labels = np.zeros((side, side), np.int32)
        small = Image.fromarray(labels[cut]).resize(new, Image.Resampling.NEAREST)
        new_labels[: new[1], : new[0]] = np.asarray(small)
    moved = (points - (x0, y0) + 0.5) * (new[0] / cut_width, new[1] / cut_height) - 0.5
    inside = ((moved >= -0.5) & (moved < np.array(new) - 0.5)).all(1) if len(moved) else np.zeros(0, bool)
    crop = Crop(resized, np.clip(moved[inside], 0, np.array(new) - 1), new_labels)
    return _flip(crop) if rng.random() < 0.5 else crop


def _flip(crop: Crop) -> Crop:
    points = crop.points.copy()
    points[:, 0] = crop.image.shape[1] - 1 - points[:, 0]
    labels = None if crop.labels is None else np.ascontiguousarray(crop.labels[:, ::-1])
    return Crop(np.ascontiguousarray(crop.image[:, ::-1]), points, labels)


def strong_augment(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Colour jitter (p 0.8), grey (p 0.25) and Gaussian blur (p 0.8) of a ``(3, S, S)`` uint8 image."""
    if rng.random() < 0.8:
        for name in rng.permutation(["brightness", "contrast", "saturation", "hue"]):
            amount = rng.uniform(-0.1, 0.1) if name == "hue" else rng.uniform(0.6, 1.4)
            image = getattr(TF, f"adjust_{name}")(image, amount)
    if rng.random() < 0.25:
        image = TF.rgb_to_grayscale(image, num_output_channels=3)
    if rng.random() < 0.8:
        sigma = rng.uniform(0.1, 2.0)
        image = TF.gaussian_blur(image, 2 * int(np.ceil(3 * sigma)) + 1, sigma)
    return image


def cut_out(rng: np.random.Generator, image: Tensor) -> tuple[Tensor, Tensor]:
    """Blank one rectangle, each side 1/8 to 1/4 of the crop. Returns the image and ``(S, S)`` bool, False where cut."""
    height, width = image.shape[-2:]
    rows, columns = (int(rng.integers(length // 8, length // 4 + 1)) for length in (height, width))
    y, x = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    keep = torch.ones(height, width, dtype=torch.bool)
    keep[y : y + rows, x : x + columns] = False
    fill = torch.tensor(FILL, dtype=image.dtype).view(3, 1, 1)
    return torch.where(keep, image, fill), keep
