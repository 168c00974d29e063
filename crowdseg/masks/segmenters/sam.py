"""Masks by segment-anything, prompted with head points and superpixels (xmask section 8, steps 3 to 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from torch import Tensor

from crowdseg.errors import SetupError, UsageError
from crowdseg.masks.crowd import Crowd, Window
from crowdseg.masks.prompts import Prompts, make_prompts
from crowdseg.masks.segmenters.base import Claim, part_at
from crowdseg.masks.settings import MaskSettings
from crowdseg.masks.superpixels import patches

_FILES = {"vit_b": "sam_vit_b_01ec64.pth", "vit_l": "sam_vit_l_0b3195.pth", "vit_h": "sam_vit_h_4b8939.pth"}
_CPU_BATCH = 4  # on a CPU larger batches only cost memory


@dataclass(frozen=True)
class Tile:
    """A part of the image that is encoded at once, and the people to be segmented in it."""

    window: Window
    people: NDArray[np.intp]


@dataclass(frozen=True)
class Grid:
    """Where the decoder's low-resolution logits lie in the image: ``x = x0 + (column + 0.5) * cell - 0.5``, y alike.

    ``size``: ``(h, w)`` of the part that is not padding.
    """

    x0: int
    y0: int
    cell: float
    size: tuple[int, int]

    def read(self, logits: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Low-resolution ``(K, h, w)`` -> the window's pixels ``(K, rows, columns)``, bilinear."""
        rows, columns = window
        y = (np.arange(rows.start, rows.stop) - self.y0 + 0.5) / self.cell - 0.5
        x = (np.arange(columns.start, columns.stop) - self.x0 + 0.5) / self.cell - 0.5
        at = np.meshgrid(y, x, indexing="ij")
        return np.stack([ndimage.map_coordinates(each, at, order=1, mode="nearest") for each in logits])

    def area_outside(self, logits: NDArray[np.float32], window: Window, threshold: float) -> NDArray[np.float64]:
        """Pixels ``(K,)`` of the masks that lie outside the window, to the precision of a cell."""
        rows, columns = window
        height, width = self.size
        y, x = ((np.arange(n) + 0.5) * self.cell - 0.5 + o for n, o in ((height, self.y0), (width, self.x0)))
        inside = ((y >= rows.start) & (y < rows.stop))[:, None] & ((x >= columns.start) & (x < columns.stop))
        return ((logits[:, :height, :width] > threshold) & ~inside).sum(axis=(1, 2)) * self.cell**2


class SamSegmenter:
    """Segments with a ``Sam``; people whom none of its candidates fits get their superpixel."""

    def __init__(self, model: Sam, *, min_containment: float = 0.3, prompt_batch: int = 64) -> None:
        self.predictor = SamPredictor(model)
        self.min_containment = min_containment
        self.batch = prompt_batch if model.device.type != "cpu" else min(prompt_batch, _CPU_BATCH)

    def claims(self, image: NDArray[np.uint8], crowd: Crowd) -> Iterator[Claim]:
        fallback = list(patches(image, crowd))
        prompts = make_prompts(crowd, fallback)
        for tile in _tiles(crowd):
            self.predictor.set_image(image[tile.window])
            grid = self._grid(tile)
            for start in range(0, len(tile.people), self.batch):
                people = tile.people[start : start + self.batch]
                logits, scores = self._candidates(prompts.rows(people), grid)
                for row, index in enumerate(people.tolist()):
                    yield self._best(crowd, index, logits[row], scores[row], grid) or fallback[index]

    def _grid(self, tile: Tile) -> Grid:
        rows, columns = tile.window
        height, width = self.predictor.input_size
        cells = 4 * self.predictor.model.prompt_encoder.image_embedding_size[0]  # the decoder upsamples 4 x
        stride = self.predictor.model.image_encoder.img_size / cells
        zoom = max(height, width) / max(rows.stop - rows.start, columns.stop - columns.start)
        return Grid(columns.start, rows.start, stride / zoom, (round(height / stride), round(width / stride)))

    @torch.no_grad()
    def _candidates(self, prompts: Prompts, grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Three masks by points alone, three by points and box: logits ``(n, 6, h, w)``, predicted IoU ``(n, 6)``."""
        model, predictor = self.predictor.model, self.predictor
        corner = np.array([grid.x0, grid.y0], np.float64)
        extent = predictor.original_size
        places = predictor.transform.apply_coords(prompts.points - corner, extent)
        boxes = predictor.transform.apply_boxes(prompts.boxes - np.tile(corner, 2), extent)
        points = (self._tensor(places), torch.as_tensor(prompts.labels, device=model.device))
        found = []
        for box in (None, self._tensor(boxes)):
            sparse, dense = model.prompt_encoder(points=points, boxes=box, masks=None)
            found.append(
                model.mask_decoder(
                    image_embeddings=predictor.features,
                    image_pe=model.prompt_encoder.get_dense_pe(),
                    sparse_prompt_embeddings=sparse,
                    dense_prompt_embeddings=dense,
                    multimask_output=True,
                )
            )
        logits, scores = (torch.cat(each, dim=1).float().cpu().numpy() for each in zip(*found, strict=True))
        return logits, scores

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.predictor.model.device)

    def _best(
        self, crowd: Crowd, index: int, logits: NDArray[np.float32], scores: NDArray[np.float32], grid: Grid
    ) -> Claim | None:
        """The candidate that holds the point and has the greatest predicted IoU x containment, cut to the circle."""
        window = crowd.window(index, crowd.radii[index])
        threshold = self.predictor.model.mask_threshold
        near = grid.read(logits, window) - threshold
        circle = crowd.inside(index, window)
        kept = ((near > 0) & circle).sum(axis=(1, 2))
        total = (near > 0).sum(axis=(1, 2)) + grid.area_outside(logits, window, threshold)
        containment = kept / np.maximum(total, 1)
        row, column = (each[index] - side.start for each, side in zip(crowd.pixels, window, strict=True))
        touches = (near[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] > 0).any(axis=(1, 2))
        worth = np.where(touches & (containment >= self.min_containment), scores * containment, -np.inf)
        best = int(worth.argmax())
        if not np.isfinite(worth[best]):
            return None
        mask = part_at((near[best] > 0) & circle, row, column, reach=1)
        score = float(np.clip(scores[best], 0, 1))
        return (
            Claim(index, window, mask, near[best], "sam", score, 1 - float(containment[best])) if mask.any() else None
        )


def _tiles(crowd: Crowd) -> list[Tile]:
    """One tile of the whole image."""
    height, width = crowd.size
    return [Tile((slice(0, height), slice(0, width)), np.arange(len(crowd)))]


def load_sam(settings: MaskSettings, checkpoint: Path | None) -> SamSegmenter:
    """Build the model and load its weights, onto a GPU where there is one.

    Raises:
        UsageError: no such model. SetupError: the weights are missing, damaged or of another model.
    """
    model_name = settings.sam_model or "vit_b"
    if model_name not in _FILES:
        raise UsageError(f"There is no SAM model {model_name!r}: choose {', '.join(_FILES)}.")
    advice = (
        f"pass --sam-checkpoint with {_FILES[model_name]} from https://github.com/facebookresearch/segment-anything"
    )
    if checkpoint is None:
        raise SetupError(f"The sam segmenter needs weights: {advice}, or use --segmenter superpixel.")
    if not checkpoint.is_file():
        raise SetupError(f"{checkpoint} is not there: {advice}.")
    model = sam_model_registry[model_name]()
    try:
        model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises anything on files that are no checkpoint
        raise SetupError(f"{checkpoint} does not hold the weights of SAM {model_name}: {advice}.") from error
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return SamSegmenter(model, min_containment=settings.min_containment, prompt_batch=settings.prompt_batch)
