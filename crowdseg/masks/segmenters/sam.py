"""The segment-anything models of Meta behind :class:`PromptedModel`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.image_encoder import Attention, add_decomposed_rel_pos
from torch import Tensor

from crowdseg.errors import SetupError
from crowdseg.masks.prompts import Prompts
from crowdseg.masks.segmenters.prompted import Encoded
from crowdseg.masks.weights import official


class SamModel:
    """A ``Sam`` of the package segment-anything."""

    def __init__(self, model: Sam) -> None:
        self.model = model
        self.side: int = model.image_encoder.img_size

    @property
    def device(self) -> torch.device:
        return self.model.device

    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        predictor = SamPredictor(self.model)
        predictor.set_image(image)
        cells = 4 * self.model.prompt_encoder.image_embedding_size[0]  # the decoder upsamples 4 x
        stride = self.side / cells  # input pixels per logit
        shape = tuple(max(1, round(length / stride)) for length in predictor.input_size)
        zoom = max(predictor.input_size) / max(image.shape[:2])
        return Encoded(predictor, (stride / zoom, stride / zoom), shape)

    @torch.no_grad()
    def candidates(self, encoded: Encoded, prompts: Prompts, *, boxes: bool) -> tuple[Tensor, Tensor]:
        predictor: SamPredictor = encoded.state
        transform, size = predictor.transform, predictor.original_size
        points = self._tensor(transform.apply_coords(prompts.points, size))
        sparse, dense = self.model.prompt_encoder(
            points=(points, torch.as_tensor(prompts.labels, device=self.device)),
            boxes=self._tensor(transform.apply_boxes(prompts.boxes, size)) if boxes else None,
            masks=None,
        )
        logits, scores = self.model.mask_decoder(
            image_embeddings=predictor.features,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return logits - self.model.mask_threshold, scores

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)


class _HeadByHead(Attention):
    """The attention of segment-anything's encoder, one head after another.

    All heads at once take 2.5 GB where the attention is global: three maps of 4096 x 4096 tokens per head.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, h, w, C)`` -> the same shape."""
        size = tokens.shape[1:3]
        heads = self.qkv(tokens).flatten(1, 2).unflatten(-1, (3, self.num_heads, -1)).permute(3, 2, 0, 1, 4)
        found = [self._attend(query, key, value, size) for query, key, value in heads]
        return self.proj(torch.cat(found, dim=-1).unflatten(1, size))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, size: torch.Size) -> Tensor:
        """One head: each ``(B, h w, c)``."""
        weights = (query * self.scale) @ key.transpose(1, 2)
        if self.use_rel_pos:
            weights = add_decomposed_rel_pos(weights, query, self.rel_pos_h, self.rel_pos_w, size, size)
        return weights.softmax(dim=-1) @ value


def bound_memory(encoder: ImageEncoderViT) -> None:
    """Have the blocks that attend to the whole image do so head by head, in place; the results are the same."""
    for block in encoder.blocks:
        if block.window_size == 0:
            block.attn.__class__ = _HeadByHead  # the same parameters, another forward


def load_sam(name: str, checkpoint: Path) -> SamModel:
    """Build ``vit_b``, ``vit_l`` or ``vit_h`` and load its weights, onto a GPU where there is one.

    Raises:
        UsageError: no such model. SetupError: the weights are missing, damaged or of another model.
    """
    advice = f"pass --sam-checkpoint with {official(name).file}, or leave it out to have it downloaded"
    if not checkpoint.is_file():
        raise SetupError(f"{checkpoint} is not there: {advice}.")
    model = sam_model_registry[name]()
    try:
        model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises anything on files that are no checkpoint
        raise SetupError(f"{checkpoint} does not hold the weights of SAM {name}: {advice}.") from error
    bound_memory(model.image_encoder)
    return SamModel(model.to("cuda" if torch.cuda.is_available() else "cpu").eval())
