"""Masks from points against real masks: the default route and cruder ones, mean IoU over instances.

Each instance is compared with the mask made for its own point (an inner point of a nucleus, the head of a pedestrian).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu

from benchmarks.common import Options, Report, cpu_seconds, plain, real_data
from crowdseg import rle
from crowdseg.data import inner_point, load_dataset, read_image
from crowdseg.data.synthetic import write_synthetic
from crowdseg.files import read_label_map
from crowdseg.masks import MaskSettings, masks_from_points
from crowdseg.masks.crowd import Crowd
from crowdseg.masks.segmenters.superpixel import SuperpixelSegmenter
from crowdseg.structures import RLE, LabelMap, Points

Image = NDArray[np.uint8]
Route = Callable[[Image, Points], LabelMap]


@dataclass
class Scene:
    image: Image
    points: Points
    masks: list[RLE]


def crowdseg_masks(image: Image, points: Points) -> LabelMap:
    return masks_from_points(image, points, SuperpixelSegmenter(), MaskSettings())[0]


def circles(image: Image, points: Points) -> LabelMap:
    """Each pixel to the nearest point whose exclusion circle contains it."""
    return Crowd.of(points, image.shape[:2]).nearest


def half_circles(image: Image, points: Points) -> LabelMap:
    """The circles' lower halves, where a person's body is."""
    labels = circles(image, points)
    rows, columns = np.nonzero(labels)
    above = rows < points[labels[rows, columns] - 1, 1]
    labels[rows[above], columns[above]] = 0
    return labels


def colour_split(image: Image, points: Points) -> LabelMap:
    """In each circle, Otsu's threshold on the colour distance to the point."""
    crowd = Crowd.of(points, image.shape[:2])
    lab = ndimage.gaussian_filter(rgb2lab(image), (1, 1, 0))
    labels = np.zeros(crowd.size, np.int32)
    rows, columns = crowd.pixels
    for index in range(len(crowd)):
        window = crowd.window(index, crowd.radii[index])
        circle = crowd.inside(index, window)
        seed = lab[max(0, rows[index] - 1) : rows[index] + 2, max(0, columns[index] - 1) : columns[index] + 2]
        distance = np.linalg.norm(lab[window] - seed.mean(axis=(0, 1)), axis=-1)
        found = distance[circle]
        near = distance <= (threshold_otsu(found) if np.ptp(found) > 0 else np.inf)
        labels[window][circle & near & (crowd.nearest[window] == index + 1)] = index + 1
    return labels


ROUTES: dict[str, Route] = {
    "crowdseg": crowdseg_masks,
    "colour split": colour_split,
    "half circles": half_circles,
    "circles": circles,
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
        areas = np.bincount(labels.ravel(), minlength=len(scene.masks) + 1)
        for label, code in enumerate(scene.masks, 1):
            truth = rle.to_mask(code)
            both = np.count_nonzero(labels[truth] == label)
            found.append(both / (areas[label] + truth.sum() - both))
    return np.array(found)


def _sets() -> Iterator[tuple[str, list[Scene]]]:
    """The real sets that are here, and a synthetic crowd."""
    for name in ("dsb2018", "PennFudanPed"):
        if folder := real_data(name):
            yield name, _scenes(folder)
    if folder := real_data("stardist_nuclei"):
        yield "stardist_nuclei", [_stardist(folder)]
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder) / "crowd", 10, (10, 60), (384, 512), 0)
        yield "synthetic", _scenes(Path(folder) / "crowd")


def _scenes(folder: Path) -> list[Scene]:
    samples = [sample for sample in load_dataset(folder).samples if sample.masks]
    return [Scene(read_image(sample.image), sample.points, sample.masks) for sample in samples]  # type: ignore[arg-type]


def _stardist(folder: Path) -> Scene:
    labels = read_label_map(folder / "mask2d.tif")
    masks = [rle.from_mask(labels == label) for label in np.unique(labels)[1:]]
    points = np.array([inner_point(rle.to_mask(mask)) for mask in masks])
    return Scene(read_image(folder / "img2d.tif"), points, masks)
