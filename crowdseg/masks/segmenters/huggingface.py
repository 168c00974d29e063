"""SAM, SAM 2, SAM 3 and their kin in the form of Hugging Face's ``transformers``, from a folder on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowdseg.errors import SetupError
from crowdseg.masks.prompts import Prompts
from crowdseg.masks.segmenters.prompted import Encoded

_KINDS = ("SamModel", "Sam2Model", "Sam3TrackerModel", "EdgeTamModel")  # these answer alike
_UPSAMPLING = 4  # logits per cell of the coarsest embedding, along each side, in all of these models


class HuggingFaceModel:
    """A mask generation model of ``transformers`` with its image processor."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.side: int = model.config.prompt_encoder_config.image_size

    @property
    def device(self) -> torch.device:
        return self.model.device

    @torch.no_grad()
    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        inputs = self.processor(images=np.array(image), return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.device)
        # SAM keeps the proportions and pads, SAM 2 and 3 stretch the image over the whole input
        shown = inputs["reshaped_input_sizes"][0].tolist() if self.processor.do_pad else pixels.shape[-2:]
        zoom = [here / there for here, there in zip(shown, image.shape[:2], strict=True)]
        embeddings = self.model.get_image_embeddings(pixels)
        coarsest = embeddings[-1] if isinstance(embeddings, list) else embeddings
        stride = [a / (_UPSAMPLING * b) for a, b in zip(pixels.shape[-2:], coarsest.shape[-2:], strict=True)]
        shape = [max(1, round(a / b)) for a, b in zip(shown, stride, strict=True)]
        return Encoded((embeddings, zoom), (stride[0] / zoom[0], stride[1] / zoom[1]), (shape[0], shape[1]))

    @torch.no_grad()
    def candidates(self, encoded: Encoded, prompts: Prompts, *, boxes: bool) -> tuple[Tensor, Tensor]:
        embeddings, (down, across) = encoded.state
        found = self.model(
            image_embeddings=embeddings,
            input_points=self._tensor(prompts.points * [across, down]),
            input_labels=torch.as_tensor(prompts.labels, device=self.device)[None],
            input_boxes=self._tensor(prompts.boxes * [across, down, across, down]) if boxes else None,
            multimask_output=True,
        )
        return found.pred_masks[0], found.iou_scores[0]

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array, dtype=self.model.dtype, device=self.device)[None]


def load_huggingface(folder: Path) -> HuggingFaceModel:
    """The model that a folder holds, as ``save_pretrained`` leaves it, onto a GPU where there is one; never downloads.

    Raises:
        SetupError: transformers is not installed, or the folder does not hold such a model.
    """
    try:
        from transformers import AutoImageProcessor, AutoModelForMaskGeneration
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise SetupError(
            f"{folder} needs the package transformers: install it with `pip install 'crowdseg[hf]'`."
        ) from error
    disable_progress_bar()  # it would draw over ours
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForMaskGeneration.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever reading a foreign folder provokes
        raise SetupError(
            f"{folder} holds no SAM of transformers ({type(error).__name__}: {_first_sentence(error)}): it needs "
            f"config.json, preprocessor_config.json and model.safetensors, as its save_pretrained writes them."
        ) from error
    if type(model).__name__ not in _KINDS:
        raise SetupError(f"{folder} holds a {type(model).__name__}, but masks come from {', '.join(_KINDS)} only.")
    return HuggingFaceModel(model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), processor)


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
