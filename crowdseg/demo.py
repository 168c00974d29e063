"""The whole of crowdseg on a small synthetic crowd with known masks: every step is a call of the public API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crowdseg import files, rle
from crowdseg.config import TrainConfig, make_config
from crowdseg.data import Dataset, load_dataset
from crowdseg.data.synthetic import write_synthetic
from crowdseg.engine import TrainResult, evaluate, load, train_count, train_seg
from crowdseg.masks import prep_masks
from crowdseg.masks.crowd import Crowd
from crowdseg.metrics import Counting, MeanIoU, mean_iou_c
from crowdseg.structures import Size

IMAGES, PEOPLE, SIZE = 72, (20, 80), (384, 512)
RATIO = 0.2
SIGMA = "8 px"  # of localisation, see crowdseg.metrics.localization
STEPS = (
    "draw a crowd",
    "masks from points",
    "train-seg",
    "train-count",
    "train on labels alone",
    "evaluate",
    "predict",
)

Say = Callable[[str], None]
Shown = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class DemoRow:
    """One line of the demo's table; values that do not apply are None. ``f1`` (located within 8 px) and
    ``mean_iou_c`` are in [0, 1]."""

    name: str
    mae: float | None
    rmse: float | None
    f1: float | None
    mean_iou_c: float | None


@dataclass(frozen=True)
class DemoResult:
    rows: list[DemoRow]
    folder: Path
    run: Path


def run_demo(
    out: Path,
    *,
    images: int = IMAGES,
    size: Size = SIZE,
    seed: int = 0,
    config: TrainConfig | None = None,
    workers: int | None = 1,
    say: Say = print,
    shown: Shown | None = None,
) -> DemoResult:
    """Draw, prepare, train, evaluate; a rerun in the same folder goes on where the last one stopped.

    Args:
        out: folder for everything.
        images, size, seed: of the crowd; ``size`` is (H, W) in pixels.
        config: of the training; default the preset ``demo`` with a fifth of the images labelled.
        workers: processes that make the masks, None for one per core; see :func:`crowdseg.prep_masks`.
        say: told the name of each step.
        shown: ``report.training.shown``, to follow the training.
    """
    config = config or make_config("demo", ratio=RATIO)
    say(STEPS[0])
    write_synthetic(out / "data", images, PEOPLE, size, seed)
    say(STEPS[1])
    prep_masks(out / "data", out / "masks", workers=workers)
    say(STEPS[2])
    common = {"data": out / "data", "masks": out / "masks"}
    _trained(train_seg, out / "seg", shown, config=config, **common)
    say(STEPS[3])
    _trained(train_count, out / "count", shown, config=config, from_run=out / "seg", **common)
    say(STEPS[4])
    alone = _labels_alone(config)
    _trained(train_seg, out / "alone-seg", shown, config=alone, **common)
    _trained(train_count, out / "alone-count", shown, config=alone, from_run=out / "alone-seg", **common)
    say(STEPS[5])
    dataset = load_dataset(out / "data")
    rows = [
        _scored("crowdseg (labels + unlabelled images)", out / "count", dataset),
        _scored("the same network, labels alone", out / "alone-count", dataset),
        _circles("plain circles around the same people", out / "count", dataset),
        _training_mean("the training mean everywhere", dataset),
    ]
    return DemoResult(rows, out, out / "count")


def _labels_alone(config: TrainConfig) -> TrainConfig:
    return replace(
        config,
        pretrain=replace(config.pretrain, unlabelled_max=0.0),
        segment=replace(config.segment, unlabelled_max=0.0),
        count=replace(config.count, unlabelled_max=0.0),
    )


def _trained(train: Callable[..., TrainResult], run: Path, shown: Shown | None, **options: Any) -> None:
    """Train into ``run`` unless that is done; go on with it where it was begun."""
    state = files.read_json(run / "run.json") if (run / "run.json").is_file() else {}
    if state.get("finished"):
        return
    if state:
        options = {"resume": True}
    if shown is None:
        train(out=run, **options)
        return
    with shown() as announce:
        train(out=run, announce=announce, **options)


def _scored(name: str, run: Path, dataset: Dataset) -> DemoRow:
    result = evaluate(run, dataset, split="test")
    counts, masks = result.counting, result.instances
    return DemoRow(name, counts.mae, counts.rmse, result.localization[SIGMA].f1, masks and masks.mean_iou_c)


def _circles(name: str, run: Path, dataset: Dataset) -> DemoRow:
    """The model's people, each with its exclusion circle for a mask."""
    model, quality = load(run), MeanIoU()
    for sample in dataset.split("test"):
        assert sample.masks is not None
        people = model.predict(sample.image, masks=False)
        circles = Crowd.of(people.points, sample.size).nearest
        quality += mean_iou_c(circles, rle.to_label_map(sample.masks, sample.size))
    return DemoRow(name, None, None, None, quality.value)


def _training_mean(name: str, dataset: Dataset) -> DemoRow:
    mean = float(np.mean([sample.count for sample in dataset.split("train")]))
    counting = Counting()
    for sample in dataset.split("test"):
        counting.update(mean, sample.count)
    counts = counting.compute()
    return DemoRow(name, counts.mae, counts.rmse, None, None)
