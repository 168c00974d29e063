"""The teacher on the validation images: it alone chooses the best weights; the test split never does."""

from __future__ import annotations

from crowdseg import metrics
from crowdseg.config import TrainConfig
from crowdseg.data.images import read_image
from crowdseg.engine.inference import predict_image
from crowdseg.engine.training_data import TrainingData
from crowdseg.engine.watcher import StepInfo, Validation
from crowdseg.models import Network
from crowdseg.structures import Prediction, Sample

EXAMPLES = 3  # predictions kept to be drawn


def validate(
    network: Network, data: TrainingData, config: TrainConfig, step: StepInfo, best: Validation | None
) -> Validation:
    """Scores at ``step``; the stage ``segment`` is judged by its masks, the others by their counts.

    Without validation images the latest weights count as the best.
    """
    counting, instances = metrics.Counting(), metrics.MeanIoU()
    with_masks = step.stage == "segment"
    examples: list[tuple[Sample, Prediction]] = []
    for sample in looked_at(data, config):
        assert sample.points is not None
        image = read_image(sample.image)
        prediction = predict_image(network, image, config.xmask, masks=with_masks, amp=config.amp)
        counting.update(prediction.points, sample.points)
        if prediction.labels is not None and data.masks.has(sample):
            instances += metrics.mean_iou_c(prediction.labels, data.masks.labels(sample))
        if len(examples) < EXAMPLES:
            examples.append((sample, prediction))
    errors, quality = counting.compute(), instances.value
    score = (errors.mae or 0.0) if quality is None else -quality
    return Validation(
        step.stage,
        round(step.epoch),
        step.step,
        errors.mae or 0.0,
        errors.rmse or 0.0,
        quality,
        score,
        best is None or not data.val or score < best.score,
        examples,
    )


def looked_at(data: TrainingData, config: TrainConfig) -> list[Sample]:
    """Every n-th of the validation images, at most ``eval_images``."""
    every = -(-len(data.val) // config.eval_images) or 1
    return data.val[::every]
