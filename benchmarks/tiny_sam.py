"""A ``Sam`` of 2.6 million parameters that is trained, so that prompts and choice can be judged by the masks they give.

``python -m benchmarks.tiny_sam`` draws synthetic crowds, trains on them and writes :data:`FILE`. It is made of
segment-anything's own classes and learns with SAM's losses from the prompts that crowdseg gives; it knows nothing but
synthetic crowds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn
from torch.nn import functional as F

from crowdseg import files
from crowdseg.data.synthetic import draw_scene
from crowdseg.masks.crowd import Crowd, Window
from crowdseg.masks.prompts import NOTHING, OTHER, Prompts, make_prompts
from crowdseg.masks.superpixels import patches
from crowdseg.structures import LabelMap

FILE = Path(__file__).with_suffix(".safetensors")
SIDE, PATCH = 192, 8  # px of the input; four logits a patch
SEED = 1
HELD_OUT = 1_000_000  # training draws its scenes from seeds below, whoever judges the network from this one on

_EMBED, _DIM = 160, 128  # of the encoder and of the prompts
_SCENES, _STEPS, _IMAGES, _PEOPLE = 200, 2800, 2, 8  # people per image and kind of prompt
_RATE, _WARM_UP, _SAVED_EVERY = 8e-4, 100, 100
_SHARPER = 2.0  # segment-anything's random frequencies suit a grid of 64 cells and a long training


def build_tiny_sam() -> Sam:
    """The network with random weights."""
    grid = SIDE // PATCH
    norm = partial(nn.LayerNorm, eps=1e-6)
    encoder = ImageEncoderViT(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=_EMBED,
        depth=6,
        num_heads=4,
        mlp_ratio=3,
        out_chans=_DIM,
        norm_layer=norm,
        window_size=8,
        global_attn_indexes=(2, 5),
        use_rel_pos=True,
    )
    prompts = PromptEncoder(
        embed_dim=_DIM, image_embedding_size=(grid, grid), input_image_size=(SIDE, SIDE), mask_in_chans=8
    )
    prompts.pe_layer.positional_encoding_gaussian_matrix *= _SHARPER
    transformer = TwoWayTransformer(depth=2, embedding_dim=_DIM, num_heads=4, mlp_dim=512)
    decoder = MaskDecoder(transformer_dim=_DIM, transformer=transformer, iou_head_depth=3, iou_head_hidden_dim=_DIM)
    _attend_to_the_same_place(transformer)
    return Sam(encoder, prompts, decoder).eval()


def _attend_to_the_same_place(transformer: TwoWayTransformer) -> None:
    """Between prompts and image, attention begins where positions agree: finding that out takes long otherwise."""
    crossing = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossing += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in crossing:
            attention.q_proj.weight *= 1.6
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def load_tiny_sam(file: Path = FILE) -> Sam:
    """The trained network, in float32."""
    sam = build_tiny_sam()
    sam.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    return sam


def save_tiny_sam(sam: Sam, file: Path = FILE) -> None:
    """As float16, which is half the size and changes no mask to speak of."""
    with files.atomic(file) as temporary:
        save_file({name: value.half().contiguous() for name, value in sam.state_dict().items()}, temporary)


@dataclass(frozen=True)
class Photograph:
    """A synthetic crowd with the prompts of its people.

    ``image`` ``(H, W, 3)`` RGB, ``labels`` ``(H, W)``, ``spacing``: the median diameter of its circles in pixels.
    """

    image: NDArray[np.uint8]
    labels: LabelMap
    prompts: Prompts
    spacing: float


def draw_photograph(seed: int) -> Photograph:
    """Small or large, crowded or not."""
    rng = np.random.default_rng([SEED, seed])
    height, width = rng.integers(192, 577, 2).tolist()
    people = max(2, round(height * width / math.exp(rng.uniform(math.log(12), math.log(90))) ** 2))
    scene = draw_scene(rng, (height, width), people)
    crowd = Crowd.of(scene.points, (height, width))
    prompts = make_prompts(crowd, list(patches(scene.image, crowd)))
    return Photograph(scene.image, scene.labels, prompts, 2 * float(np.median(crowd.radii)))


@dataclass(frozen=True)
class Lesson:
    """A crop as the network sees it: ``image`` ``(3, SIDE, SIDE)``, prompts in its pixels, and the answers.

    ``masks`` ``(n, h, w)`` at the logits' resolution, each cell the share of it that the person covers.
    """

    image: Tensor
    prompts: Prompts
    masks: Tensor


def make_lesson(rng: np.random.Generator, photograph: Photograph, sam: Sam) -> Lesson:
    """A random part, enlarged or reduced as tiles do it and far beyond, and some of its people."""
    window = _random_window(rng, photograph)
    while not (people := _people_in(photograph, window)).size:
        window = _random_window(rng, photograph)
    people = rng.permutation(people)[:_PEOPLE]
    part = photograph.image[window]
    size, resize = part.shape[:2], ResizeLongestSide(SIDE)
    prompts = photograph.prompts.rows(people).inside(window)
    scaled = Prompts(resize.apply_coords(prompts.points, size), prompts.labels, resize.apply_boxes(prompts.boxes, size))
    image = torch.as_tensor(resize.apply_image(part)).permute(2, 0, 1)
    own = torch.as_tensor(photograph.labels[window] == people[:, None, None] + 1).float()
    cells = [max(1, round(length * 4 / PATCH)) for length in image.shape[1:]]
    masks = F.interpolate(own[None], cells, mode="bilinear", antialias=True)[0]
    whole = 4 * SIDE // PATCH
    padded = F.pad(masks, (0, whole - cells[1], 0, whole - cells[0]))
    return Lesson(sam.preprocess(image), scaled, padded)


def _random_window(rng: np.random.Generator, photograph: Photograph) -> Window:
    """So large that the median circle's diameter is some 35 px of the input, with a wide spread around."""
    size = photograph.labels.shape
    seen = 24 * math.exp(rng.normal(0.4, 0.7))
    side = int(np.clip(SIDE * photograph.spacing / seen, SIDE / 4, max(size)))
    starts = [int(rng.integers(0, max(1, length - side + 1))) for length in size]
    rows, columns = (slice(start, min(start + side, length)) for start, length in zip(starts, size, strict=True))
    return rows, columns


def _people_in(photograph: Photograph, window: Window) -> NDArray[np.intp]:
    x, y = photograph.prompts.points[:, 0].T
    rows, columns = window
    return np.flatnonzero((x >= columns.start) & (x < columns.stop - 1) & (y >= rows.start) & (y < rows.stop - 1))


def answer(sam: Sam, embedding: Tensor, prompts: Prompts, *, boxes: bool) -> tuple[Tensor, Tensor]:
    """Logits ``(n, 3, h, w)`` and predicted IoUs ``(n, 3)``; prompts in pixels of the input."""
    sparse, dense = sam.prompt_encoder(
        points=(torch.as_tensor(prompts.points, dtype=torch.float32), torch.as_tensor(prompts.labels)),
        boxes=torch.as_tensor(prompts.boxes, dtype=torch.float32) if boxes else None,
        masks=None,
    )
    return sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )


def batch_loss(sam: Sam, rng: np.random.Generator, batch: list[Lesson]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):  # halves the time where the processor knows bfloat16
        embeddings = sam.image_encoder(torch.stack([lesson.image for lesson in batch])).float()
        return torch.stack(
            [lesson_loss(sam, rng, each[None], lesson) for each, lesson in zip(embeddings, batch, strict=True)]
        ).mean()


def lesson_loss(sam: Sam, rng: np.random.Generator, embedding: Tensor, lesson: Lesson) -> Tensor:
    """SAM's: focal and dice loss of the best candidate, squared error of all predicted IoUs.

    Asked as crowdseg asks, by points and by points with a box; of the former half without neighbours.
    """
    alone = rng.random(len(lesson.masks)) < 0.5
    labels = np.where(alone[:, None] & (lesson.prompts.labels == OTHER), NOTHING, lesson.prompts.labels)
    by_points = Prompts(lesson.prompts.points, labels, lesson.prompts.boxes)
    losses = []
    for prompts, boxes in ((by_points, False), (lesson.prompts, True)):
        logits, scores = (each.float() for each in answer(sam, embedding, prompts, boxes=boxes))
        losses.append(_mask_loss(logits, lesson.masks).amin(1) + (scores - _iou(logits, lesson.masks)).square().mean(1))
    return torch.cat(losses).mean()


def _mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """``(n, K)``: focal loss per cell of the person, so that small ones count alike, and dice loss."""
    target = masks[:, None].expand_as(logits)
    chance = logits.sigmoid()
    wrong = (chance - target).abs().square()
    area = target.sum((2, 3))
    focal = (wrong * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).sum((2, 3)) / (area + 4)
    dice = 1 - (2 * (chance * target).sum((2, 3)) + 1) / (chance.sum((2, 3)) + area + 1)
    return focal + dice


@torch.no_grad()
def _iou(logits: Tensor, masks: Tensor) -> Tensor:
    """``(n, K)`` of what lies above 0 with the cells that the person covers at least half."""
    found, target = logits > 0, masks[:, None] >= 0.5
    return (found & target).sum((2, 3)) / (found | target).sum((2, 3)).clamp(min=1)


def lessons(sam: Sam, photographs: list[Photograph], steps: int, rng: np.random.Generator) -> Iterator[list[Lesson]]:
    for _ in range(steps):
        chosen = rng.integers(0, len(photographs), _IMAGES)
        yield [make_lesson(rng, photographs[index], sam) for index in chosen]


def train(file: Path, steps: int, scenes: int) -> Sam:
    """Train and write the weights now and then, so that a run that is cut off leaves what it has learnt."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    shown = Console(stderr=True)
    photographs = [draw_photograph(seed) for seed in track(range(scenes), "drawing crowds", console=shown)]
    sam = build_tiny_sam().train()
    optimiser = torch.optim.AdamW(sam.parameters(), lr=_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    smoothed = math.nan
    batches = track(lessons(sam, photographs, steps, rng), "training", total=steps, console=shown)
    for step, batch in enumerate(batches, 1):
        loss = batch_loss(sam, rng, batch)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(sam.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        smoothed = loss.item() if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * loss.item()
        if step % _SAVED_EVERY == 0 or step == steps:
            save_tiny_sam(sam, file)
            print(f"step {step} of {steps}: loss {smoothed:.3f}", flush=True)
    return sam.eval()


def _rate(step: int, steps: int) -> float:
    """Of the full learning rate: up in a line, down along a cosine."""
    return min((step + 1) / _WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps) + 1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiny_sam", description=__doc__)
    parser.add_argument("--out", type=Path, default=FILE, help="where the weights go (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=_STEPS, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=_SCENES, help="crowds drawn (default: %(default)s)")
    options = parser.parse_args()
    train(options.out, options.steps, options.scenes)


if __name__ == "__main__":
    main()
