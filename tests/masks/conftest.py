"""A tiny Sam of segment-anything's own classes, and small sets of blobs with known masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


def build_tiny_sam(checkpoint: object = None, *, seed: int = 0, side: int = 128, width: int = 32) -> Sam:
    """0.08 M random parameters; takes ``checkpoint`` as the registry's builders do."""
    torch.manual_seed(seed)
    grid = side // 16
    encoder = ImageEncoderViT(
        img_size=side,
        patch_size=16,
        embed_dim=width,
        depth=2,
        num_heads=2,
        mlp_ratio=2,
        out_chans=width,
        window_size=4,
        global_attn_indexes=(1,),
        use_rel_pos=True,
    )
    prompts = PromptEncoder(
        embed_dim=width, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=4
    )
    transformer = TwoWayTransformer(depth=1, embedding_dim=width, num_heads=2, mlp_dim=64)
    decoder = MaskDecoder(transformer_dim=width, transformer=transformer, iou_head_depth=2, iou_head_hidden_dim=width)
    return Sam(encoder, prompts, decoder).eval()


@pytest.fixture
def tiny_sam() -> Callable[..., Sam]:
    return build_tiny_sam


@dataclass
class Blobs:
    """Bright discs on a noisy ground: ``image`` ``(H, W, 3)``, ``points`` ``(N, 2)``, ``labels`` ``(H, W)``."""

    image: np.ndarray
    points: np.ndarray
    labels: np.ndarray


def draw_blobs(seed: int = 0, size: tuple[int, int] = (120, 160), number: int = 12) -> Blobs:
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels, points = np.zeros(size, np.int32), []
    while len(points) < number:
        radius = generator.uniform(5, 9)
        x, y = generator.uniform(10, size[1] - 10), generator.uniform(10, size[0] - 10)
        disc = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
        if not labels[(columns - x) ** 2 + (rows - y) ** 2 <= (radius + 2) ** 2].any():
            points.append((x, y))
            labels[disc] = len(points)
    ground = np.where(labels[..., None] > 0, [200, 120, 90], [40, 60, 80]) + generator.normal(0, 8, (*size, 3))
    return Blobs(ground.clip(0, 255).astype(np.uint8), np.array(points), labels)


@pytest.fixture
def blobs() -> Callable[..., Blobs]:
    return draw_blobs


@pytest.fixture
def blob_set(tmp_path) -> Path:
    """Four images with a points.csv, in ``tmp_path / "data"``."""
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    rows = ["image,x,y"]
    for number in range(4):
        scene = draw_blobs(number, (60, 80), 4)
        Image.fromarray(scene.image).save(folder / f"{number}.png")
        rows += [f"images/{number}.png,{x},{y}" for x, y in scene.points]
    (tmp_path / "data" / "points.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "data"
