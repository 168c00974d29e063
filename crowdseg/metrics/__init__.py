"""Scores on arrays, usable without the rest: counts, points and masks, each ``update`` -> ``compute`` -> ``reset``."""

from crowdseg.metrics.average_precision import AveragePrecision
from crowdseg.metrics.counting import Counting, CountingResult, DensityBin
from crowdseg.metrics.instances import ImageInstances, InstanceResult, Instances, MeanIoU, Panoptic, mean_iou_c
from crowdseg.metrics.localization import Localization, box_sigmas, match_points
from crowdseg.metrics.matching import Matches
from crowdseg.metrics.regions import inside

__all__ = [
    "AveragePrecision",
    "Counting",
    "CountingResult",
    "DensityBin",
    "ImageInstances",
    "InstanceResult",
    "Instances",
    "Localization",
    "Matches",
    "MeanIoU",
    "Panoptic",
    "box_sigmas",
    "inside",
    "match_points",
    "mean_iou_c",
]
