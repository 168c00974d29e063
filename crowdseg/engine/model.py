"""A trained model, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crowdseg.config import TrainConfig, read_config
from crowdseg.data.images import read_image
from crowdseg.engine.checkpoint import find_run, load_weights
from crowdseg.engine.device import choose_device
from crowdseg.engine.inference import DEFAULT_TILE, predict_image
from crowdseg.methods import method_class
from crowdseg.models import Network
from crowdseg.structures import Prediction


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

    def predict(
        self,
        image: NDArray[np.uint8] | Path | str,
        *,
        tile: int = DEFAULT_TILE,
        min_score: float = 0.5,
        masks: bool = True,
    ) -> Prediction:
        """People in an image file or ``(H, W, 3)`` uint8 RGB array, every one above ``min_score``, with masks.

        Without masks where ``masks`` is False, or where the network draws none (:attr:`draws_masks`).

        Raises:
            DataError: the file is not a readable image.
        """
        path = None if isinstance(image, np.ndarray) else Path(image)
        pixels = image if isinstance(image, np.ndarray) else read_image(Path(image))
        prediction = predict_image(
            self.network,
            pixels,
            self.config.xmask,
            tile=tile,
            min_score=min_score,
            masks=masks and self.draws_masks,
            amp=self.config.amp,
        )
        prediction.image = path
        return prediction


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


def predict(
    image: NDArray[np.uint8] | Path | str, model: Model | Path | str | None = None, **options: object
) -> Prediction:
    """:meth:`Model.predict` in one call; ``model`` may be a run folder, or None for the newest run."""
    ready = model if isinstance(model, Model) else load(model)
    return ready.predict(image, **options)  # type: ignore[arg-type]
