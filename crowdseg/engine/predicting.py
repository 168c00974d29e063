"""Predicting many images; small ones together, and a broken one does not stop the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdseg.data import image_size, read_image
from crowdseg.engine.image_files import NamedImage
from crowdseg.engine.memory import OutOfMemory
from crowdseg.engine.room import canvas_of
from crowdseg.errors import DataError
from crowdseg.report.console import progress
from crowdseg.structures import Prediction, Size

TOGETHER = 1 << 20  # pixels of the images that are in memory at once, if more than one is

Receive = Callable[[Prediction, Any], None]
Read = list[tuple[NamedImage, NDArray[np.uint8]]]


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
    model: Any, images: Sequence[NamedImage], receive: Receive | None = None, *, min_score: float = 0.5, **options: Any
) -> PredictedImages:
    """Predict each image and hand it on, in order; in memory are a megapixel of images together, or one larger one.

    Args:
        model: what :func:`crowdseg.load` gives.
        images: what :func:`crowdseg.engine.image_files.find_images` found.
        receive: called with each prediction, its ``key`` set to the image's name, and the image ``(H, W, 3)`` uint8.
        **options: ``tile``, ``masks`` and ``max_memory`` as for ``model.predict``.

    Raises:
        OutOfMemory: an image is too large for ``max_memory``; UsageError: ``tile`` is too small for the network. Both
            before the first image is begun.
    """
    result = PredictedImages([], [])
    sizes = _sizes(images, result.broken)
    _check_memory(model, sizes, options)
    with progress() as bar:
        task = bar.add_task("Predicting", total=len(sizes))

        def hand_on(prediction: Prediction, pixels: NDArray[np.uint8]) -> None:
            if receive is not None:
                receive(prediction, pixels)
            result.counts.append((str(prediction.key), prediction.count))
            bar.advance(task)

        for chunk in _chunks(sizes, result.broken):
            for read in _predicted(model, chunk, {"min_score": min_score, **options}):
                hand_on(*read)
            del read  # or the last image of a chunk would be held while the next one is read
    return result


def _sizes(images: Sequence[NamedImage], broken: list[tuple[str, str]]) -> list[tuple[NamedImage, Size]]:
    """The images that can be read, as far as their headers tell."""
    found = []
    for image in images:
        try:
            found.append((image, image_size(image.path)))
        except DataError as error:
            broken.append((image.name, str(error)))
    return found


def _check_memory(model: Any, sizes: list[tuple[NamedImage, Size]], options: dict[str, Any]) -> None:
    first = {size: image for image, size in reversed(sizes)}
    for size, image in sorted(first.items(), key=lambda each: -math.prod(each[0])):
        try:
            model.check_file(size, **options)
        except OutOfMemory as error:
            raise OutOfMemory(f"{image.path}: {error}") from error


def _chunks(sizes: list[tuple[NamedImage, Size]], broken: list[tuple[str, str]]) -> Iterator[Read]:
    """The images in order, read, as many at a time as have :data:`TOGETHER` pixels, at least one."""
    chunk: Read = []
    held = 0
    for image, (height, width) in sizes:
        if chunk and held + height * width > TOGETHER:
            yield chunk
            chunk.clear()  # who received it still holds the list while the next image is read
            held = 0
        try:
            chunk.append((image, read_image(image.path)))
        except DataError as error:
            broken.append((image.name, str(error)))
        held += height * width
    if chunk:
        yield chunk


def _predicted(model: Any, chunk: Read, options: dict[str, Any]) -> list[tuple[Prediction, NDArray[np.uint8]]]:
    """Predictions of all images of a chunk with the images, those that fill the same canvas in one batch."""
    predictions: dict[str, Prediction] = {}

    def canvas(read: tuple[NamedImage, NDArray[np.uint8]]) -> Size:
        return canvas_of(read[1].shape[:2])

    for _, group in groupby(sorted(chunk, key=canvas), key=canvas):
        batch = list(group)
        for (image, _), prediction in zip(
            batch, model.predict_together([pixels for _, pixels in batch], **options), strict=True
        ):
            prediction.key, prediction.image = image.name, image.path
            predictions[image.name] = prediction
    return [(predictions[image.name], pixels) for image, pixels in chunk]
