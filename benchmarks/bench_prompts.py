"""What each ingredient of the sam route is worth: masks of held-out synthetic crowds by the tiny trained Sam.

From the point alone to the whole route one ingredient is added at a time; then one at a time is left out of the whole.
All of it goes through the product's own path.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from benchmarks.common import Options, Report, plain
from benchmarks.tiny_sam import HELD_OUT, load_tiny_sam
from crowdseg.data.synthetic import Scene, draw_scene
from crowdseg.masks import MaskSettings, masks_from_points
from crowdseg.masks.crowd import Crowd
from crowdseg.masks.prompts import NOTHING, OTHER, Prompts
from crowdseg.masks.segmenters.base import Claim
from crowdseg.masks.segmenters.prompted import Candidates, Encoded, Grid, PromptedModel, PromptedSegmenter
from crowdseg.masks.segmenters.sam import SamModel
from crowdseg.metrics import MeanIoU, mean_iou_c
from crowdseg.structures import LabelMap

INGREDIENTS = ("neighbour negatives", "superpixel box", "circles", "tiles")
SIZE = (512, 768)
CROWDS = {"sparse": (75, 2), "crowded": (300, 1), "dense": (600, 1)}  # people in an image of SIZE, and images


@dataclass(frozen=True)
class Asked:
    """A prompted network without the tiles, negatives or boxes that are not among ``ingredients``."""

    model: PromptedModel
    ingredients: frozenset[str]

    @property
    def side(self) -> int:
        """Without tiles so large that every head is large enough at once."""
        return self.model.side if "tiles" in self.ingredients else 1 << 20

    @property
    def device(self) -> torch.device:
        return self.model.device

    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        return self.model.encode(image)

    def candidates(self, encoded: Encoded, prompts: Prompts, *, boxes: bool) -> tuple[Tensor, Tensor]:
        if "neighbour negatives" not in self.ingredients:
            prompts = replace(prompts, labels=np.where(prompts.labels == OTHER, NOTHING, prompts.labels))
        logits, scores = self.model.candidates(encoded, prompts, boxes=boxes)
        told = not boxes or "superpixel box" in self.ingredients
        return (logits, scores) if told else (logits[:, :0], scores[:, :0])


class Unbounded(PromptedSegmenter):
    """Without circles: whatever lies in the image is inside."""

    def _best(self, crowd: Crowd, index: int, pixel: NDArray[np.intp], found: Candidates, grid: Grid) -> Claim | None:
        everywhere = replace(crowd, radii=np.full(len(crowd), np.hypot(*crowd.size)))
        return super()._best(everywhere, index, pixel, found, grid)


@dataclass(frozen=True)
class Quality:
    """How good masks are, summed over images.

    ``whole``: mean IoU C against what is visible of people, ``inside``: against the part of it in their circles, which
    is what the method calls a person's mask; ``own`` ``(N,)``: IoU of each with its own point's visible person.
    """

    whole: MeanIoU = field(default_factory=MeanIoU)
    inside: MeanIoU = field(default_factory=MeanIoU)
    own: tuple[float, ...] = ()

    def __add__(self, other: Quality) -> Quality:
        return Quality(self.whole + other.whole, self.inside + other.inside, self.own + other.own)

    @classmethod
    def of(cls, labels: LabelMap, scene: Scene) -> Quality:
        own = own_ious(labels, scene.labels, len(scene.points))
        return cls(mean_iou_c(labels, scene.labels), mean_iou_c(labels, truth_in_circles(scene)), tuple(own))

    def values(self) -> dict[str, float]:
        return {
            "mean IoU C": 100 * (self.whole.value or 0),
            "own mask": 100 * float(np.mean(self.own)),
            "in circles": 100 * (self.inside.value or 0),
        }


def own_ious(labels: LabelMap, truth: LabelMap, people: int) -> NDArray[np.float64]:
    """IoU ``(N,)`` of each person's mask with the true one."""
    areas = [np.bincount(each.ravel(), minlength=people + 1)[1:] for each in (labels, truth, truth[labels == truth])]
    return areas[2] / (areas[0] + areas[1] - areas[2])


def make_masks(model: PromptedModel, scene: Scene, ingredients: frozenset[str]) -> LabelMap:
    kind = PromptedSegmenter if "circles" in ingredients else Unbounded
    return masks_from_points(scene.image, scene.points, kind(Asked(model, ingredients)), MaskSettings("sam"))[0]


def held_out(index: int, people: int) -> Scene:
    """A scene that the network was not trained on."""
    return draw_scene(np.random.default_rng(HELD_OUT + index), SIZE, people)


def routes() -> dict[str, frozenset[str]]:
    """Name and ingredients: from none to all, then all but one (those but the last; that is there already)."""
    whole = frozenset(INGREDIENTS)
    growing = {f"+ {name}": frozenset(INGREDIENTS[: number + 1]) for number, name in enumerate(INGREDIENTS)}
    return {"point only": frozenset()} | growing | {f"all but {name}": whole - {name} for name in INGREDIENTS[:-1]}


def run(options: Options) -> Report:
    styles = {"crowd": "", "route": "", "mean IoU C": ".1f", "own mask": ".1f", "in circles": ".1f", "people": "d"}
    report = Report("Ingredients of the sam route", [plain(*each) for each in styles.items()], lambda row: row["crowd"])
    model = SamModel(load_tiny_sam().to(options.device))
    for crowd, (people, images) in CROWDS.items():
        scenes = [held_out(index, people) for index in range(1 if options.quick else images)]
        makers = {"circles alone": circles} | {
            name: partial(make_masks, model, ingredients=ingredients) for name, ingredients in routes().items()
        }
        makers["truth, cut to circles"] = truth_in_circles
        for route, make in track(makers.items(), crowd, console=Console(stderr=True)):
            quality = sum((Quality.of(make(scene), scene) for scene in scenes), Quality())
            report.add(crowd=crowd, route=route, **quality.values(), people=len(quality.own))
    return report


def circles(scene: Scene) -> LabelMap:
    """Each pixel to the nearest point whose circle contains it."""
    return Crowd.of(scene.points, scene.labels.shape).nearest


def truth_in_circles(scene: Scene) -> LabelMap:
    """What is visible of each person, as far as it lies in the person's circle."""
    crowd = Crowd.of(scene.points, scene.labels.shape)
    return np.where(crowd.inside_own(scene.labels), scene.labels, 0)
