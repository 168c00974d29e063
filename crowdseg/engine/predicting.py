"""Predicting many images one after the other; a broken one does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crowdseg.data import read_image
from crowdseg.engine.image_files import NamedImage
from crowdseg.errors import DataError
from crowdseg.report.console import progress
from crowdseg.structures import Prediction

Receive = Callable[[Prediction, Any], None]


@dataclass(frozen=True)
class PredictedImages:
    """Counts in the order of the images.

    Attributes:
        counts: (name, count) of every image that could be read.
        broken: (name, what is wrong) of the others.
    """

    counts: list[tuple[str, float]]
    broken: list[tuple[str, str]]

    @property
    def total(self) -> float:
        """People in all images together."""
        return sum(count for _, count in self.counts)


def predict_images(
    model: Any, images: Sequence[NamedImage], receive: Receive | None = None, **options: Any
) -> PredictedImages:
    """Predict each image and hand it on; only one is in memory at a time.

    Args:
        model: what :func:`crowdseg.load` gives.
        images: what :func:`crowdseg.engine.image_files.find_images` found.
        receive: called with each prediction, its ``key`` set to the image's name, and the image ``(H, W, 3)`` uint8.
        **options: handed to ``model.predict``.
    """
    result = PredictedImages([], [])
    with progress() as bar:
        for image in bar.track(images, description="Predicting"):
            try:
                pixels = read_image(image.path)
            except DataError as error:
                result.broken.append((image.name, str(error)))
                continue
            prediction = replace(model.predict(pixels, **options), key=image.name, image=image.path)
            if receive is not None:
                receive(prediction, pixels)
            result.counts.append((image.name, prediction.count))
    return result
