"""A trained model, ready to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowdseg.config import TrainConfig, read_config
from crowdseg.data.images import image_size, read_image
from crowdseg.engine.checkpoint import find_run, load_weights
from crowdseg.engine.device import choose_device
from crowdseg.engine.inference import predict_together
from crowdseg.engine.room import check_file, free_for_predicting, plan_image
from crowdseg.errors import UsageError
from crowdseg.memory import LARGE, return_freed_memory
from crowdseg.methods import method_class
from crowdseg.models import Network, folded
from crowdseg.structures import Prediction, Size

Image = NDArray[np.uint8] | Tensor | Path | str


@dataclass
class Model:
    """A network with the settings of its training; ``run`` is its folder, ``record`` tells of its weights."""

    network: Network
    config: TrainConfig
    run: Path
    record: dict[str, object]

    @property
    def name(self) -> str:
        folder = self.run.resolve()
        return f"{folder.parent.name}-{folder.name}"

    @property
    def draws_masks(self) -> bool:
        """False for imported weights that came without a mask head: they count and locate people."""
        return bool(self.record.get("masks", True))

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @cached_property
    def _quick(self) -> Network:
        return folded(self.network)

    def predict(
        self,
        image: Image,
        *,
        tile: int | None = None,
        min_score: float = 0.5,
        masks: bool = True,
        max_memory: int | None = None,
    ) -> Prediction:
        """Every person above ``min_score`` in an image of any size, with masks.

        Without masks where ``masks`` is False, or where the network draws none (:attr:`draws_masks`).

        Args:
            image: a file; ``(H, W, 3)`` uint8 RGB; or a tensor ``(3, H, W)`` RGB on any device, uint8 or, as
                torchvision's ``to_tensor`` gives it, floats in [0, 1].
            tile: side in pixels of the tiles that an image larger than it is cut into; None for what memory allows.
            max_memory: bytes that the process may hold in all (on a GPU: of the GPU's memory); None for half of what
                is free.

        Raises:
            DataError: the file is not a readable image.
            UsageError: an array or tensor of another shape or type, or tiles too small for the network.
            OutOfMemory: ``max_memory`` does not do for an image of this size.
        """
        path = Path(image) if isinstance(image, str | Path) else None
        if path:
            self.check_file(image_size(path), tile=tile, masks=masks, max_memory=max_memory)
        pixels = as_pixels(image) if isinstance(image, Tensor | np.ndarray) else read_image(Path(image))
        (prediction,) = self.predict_together([pixels], tile, min_score, masks, max_memory)
        prediction.image = path
        return prediction

    def predict_together(
        self,
        images: Sequence[NDArray[np.uint8]],
        tile: int | None = None,
        min_score: float = 0.5,
        masks: bool = True,
        max_memory: int | None = None,
    ) -> list[Prediction]:
        """:meth:`predict` of ``(H, W, 3)`` arrays in one batch; all fill the same canvas (:func:`~.room.canvas_of`)."""
        masks = masks and self.draws_masks
        room = free_for_predicting(self.device, max_memory)
        plan = plan_image(self.network, images[0].shape[:2], masks, room, tile)
        batches = [images[start : start + plan.together] for start in range(0, len(images), plan.together)]
        settings: dict[str, Any] = {"plan": plan, "min_score": min_score, "masks": masks, "amp": self.config.amp}
        done = [predict_together(self._quick, batch, self.config.xmask, **settings) for batch in batches]
        if images[0].nbytes > LARGE:  # the maps' memory, which pictures take in other pieces
            return_freed_memory()
        return [prediction for batch in done for prediction in batch]

    def check_file(
        self, size: Size, *, tile: int | None = None, masks: bool = True, max_memory: int | None = None
    ) -> None:
        """Refuse an image file of ``size`` (H, W) that :meth:`predict` has not the memory for, before it is read.

        Raises:
            OutOfMemory: names the size and both amounts.
        """
        check_file(self.network, size, masks and self.draws_masks, max_memory, tile)


def as_pixels(image: NDArray[np.uint8] | Tensor) -> NDArray[np.uint8]:
    """An array or tensor as :meth:`Model.predict` takes them -> ``(H, W, 3)`` uint8.

    Raises:
        UsageError: it has another shape or type.
    """
    if isinstance(image, Tensor):
        if image.is_floating_point():
            image = (image.detach() * 255).round().clamp(0, 255).to(torch.uint8)
        image = (image.movedim(0, -1) if image.ndim == 3 else image).cpu().numpy()
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        what = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(
            f"An image is a file, an array (H, W, 3) of uint8 or a tensor (3, H, W) of uint8 or floats in [0, 1]: "
            f"this is {what}."
        )
    return image


def load(run: Path | str | None = None, device: str | torch.device = "auto") -> Model:
    """The model of a run folder, or of the newest run under ``./runs``.

    Raises:
        UsageError: there is no such run. DataError: its files are damaged. SetupError: the device is not there.
    """
    found = find_run(run)
    config = read_config(found.folder / "config.yaml")
    network = method_class(config.method)(config, "none").teacher
    record = load_weights(found.folder, network)
    chosen = choose_device(device) if isinstance(device, str) else device
    assert isinstance(network, Network)
    return Model(network.eval().to(chosen), config, found.folder, record)


def predict(image: Image, model: Model | Path | str | None = None, **options: object) -> Prediction:
    """:meth:`Model.predict` in one call; ``model`` may be a run folder, or None for the newest run."""
    ready = model if isinstance(model, Model) else load(model)
    return ready.predict(image, **options)  # type: ignore[arg-type]
