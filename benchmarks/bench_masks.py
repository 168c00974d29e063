"""Masks from points against real masks: the default route and cruder ones, mean IoU over instances.

Each instance is compared with the mask made for its own point: an inner point of a nucleus, the head of a person, 7 %
below the mask's top.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import rivals
from benchmarks.common import Options, Report, cpu_seconds, plain, real_data
from benchmarks.rivals import Image, Route
from crowdseg import rle
from crowdseg.data import inner_point, load_dataset, read_image
from crowdseg.data.synthetic import write_synthetic
from crowdseg.files import read_label_map
from crowdseg.masks import MaskSettings, masks_from_points
from crowdseg.masks.segmenters.superpixel import SuperpixelSegmenter
from crowdseg.structures import RLE, LabelMap, Points


@dataclass
class Scene:
    """``ignore``: regions with people that nobody marked one by one; masks may reach into them unpunished."""

    image: Image
    points: Points
    masks: list[RLE]
    ignore: list[RLE] = field(default_factory=list)


def crowdseg_masks(image: Image, points: Points) -> LabelMap:
    return masks_from_points(image, points, SuperpixelSegmenter(), MaskSettings())[0]


ROUTES: dict[str, Route] = {
    "crowdseg": crowdseg_masks,
    "colour split": rivals.colour_split,
    "seeded watershed": rivals.seeded_watershed,
    "random walker": rivals.walker,
    "SLIC segment": rivals.superpixel,
    "half circles": rivals.half_circles,
    "circles": rivals.circles,
}


def run(options: Options) -> Report:
    styles = {"data": "", "route": "", "mean IoU": ".1f", "IoU > 0.5": ".1f", "people": "d", "cpu s": ".1f"}
    report = Report("Masks from points", [plain(*column) for column in styles.items()], lambda row: row["data"])
    for name, scenes in _sets():
        scenes = scenes[::5] if options.quick and len(scenes) > 5 else scenes
        for route, function in ROUTES.items():
            ious, seconds = cpu_seconds(lambda function=function, scenes=scenes: _ious(function, scenes))
            values = {"mean IoU": 100 * ious.mean(), "IoU > 0.5": 100 * (ious > 0.5).mean(), "people": len(ious)}
            report.add(data=name, route=route, **values, **{"cpu s": seconds})
    return report


def _ious(route: Route, scenes: list[Scene]) -> NDArray[np.float64]:
    """IoU of every instance with the mask of its own point."""
    found = []
    for scene in scenes:
        labels = route(scene.image, scene.points)
        judged = _without(scene.ignore, labels)
        areas = np.bincount(judged.ravel(), minlength=len(scene.masks) + 1)
        for label, code in enumerate(scene.masks, 1):
            truth = rle.to_mask(code)
            both = np.count_nonzero(labels[truth] == label)
            beyond = areas[label] - np.count_nonzero(judged[truth] == label)
            found.append(both / (truth.sum() + beyond))
    return np.array(found)


def _without(ignore: list[RLE], labels: LabelMap) -> LabelMap:
    ignored = np.zeros(labels.shape, bool)
    for code in ignore:
        ignored |= rle.to_mask(code)
    return np.where(ignored, 0, labels)


def _sets() -> Iterator[tuple[str, list[Scene]]]:
    """The real sets that are here, and a synthetic crowd."""
    for name in ("dsb2018", "PennFudanPed", "coco"):
        if folder := real_data(name):
            yield name, _scenes(folder)
    if folder := real_data("stardist_nuclei"):
        yield "stardist_nuclei", [_stardist(folder)]
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder) / "crowd", 10, (10, 60), (384, 512), 0)
        yield "synthetic", _scenes(Path(folder) / "crowd")


def _scenes(folder: Path) -> list[Scene]:
    samples = [sample for sample in load_dataset(folder).samples if sample.masks]
    return [Scene(read_image(each.image), each.points, each.masks or [], each.ignore) for each in samples]


def _stardist(folder: Path) -> Scene:
    labels = read_label_map(folder / "mask2d.tif")
    masks = [rle.from_mask(labels == label) for label in np.unique(labels)[1:]]
    points = np.array([inner_point(rle.to_mask(mask)) for mask in masks])
    return Scene(read_image(folder / "img2d.tif"), points, masks)
