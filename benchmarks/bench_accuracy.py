"""What the method gains over labels alone, and each of its ideas: runs of the same network, budget and seeds.

Every run is a folder under ``runs/accuracy`` and is kept: a rerun trains only what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks import ablations
from benchmarks.common import Column, Options, Report, Row, plain, real_data, show
from crowdseg import files, rle
from crowdseg.config import TrainConfig, make_config
from crowdseg.data import Dataset, load_dataset
from crowdseg.data.synthetic import write_synthetic
from crowdseg.engine import evaluate, load, train_count, train_seg
from crowdseg.masks import prep_masks
from crowdseg.masks.crowd import Crowd
from crowdseg.masks.store import MaskStore
from crowdseg.methods import METHODS
from crowdseg.metrics import MeanIoU, mean_iou_c
from crowdseg.structures import LabelMap, Sample, Size

WORK = Path("runs") / "accuracy"
ONE, TWO, THREE = 1, 2, 3  # stages


class Variant(NamedTuple):
    """A way to train: ``stages`` of XMask, from labels alone or not, with other settings or another method."""

    name: str
    stages: int = THREE
    labels_alone: bool = False
    method: str = "xmask"
    xmask: Mapping[str, Any] = MappingProxyType({})

    @property
    def label(self) -> str:
        """The name, and where it stops short of stage 3; with stage 3 the first two are the very same run."""
        return f"{self.name}, stages 1 and 2" if self.stages == TWO else self.name


IN_PRETRAIN = ("pseudo_points",)  # settings that stage 1 knows; all variants without another value share it
METHODS |= {
    "xmask-without-circles": ablations.WithoutCircles,
    "xmask-every-few": ablations.EveryFew,
    "xmask-overlapping": ablations.Overlapping,
    "xmask-at-cells": ablations.AtCells,
}
# What docs/train.md advises for short schedules, in the places of the published settings
ADVISED = (
    "xmask.pseudo_points=peaks",
    "xmask.constraint_at=cells",
    "xmask.unit_mass_weight=0",
    "xmask.single_peak_weight=0.05",
    "xmask.segment_p2r_weight=1",
)
AS_PUBLISHED = {"constraint_at": "pixels", "unit_mass_weight": 0.005, "single_peak_weight": 0.0}
MAIN = [
    Variant("labels alone", ONE, labels_alone=True),
    Variant("P2R", ONE),
    Variant("XMask", TWO),
    Variant("XMask"),
]
ABLATIONS = [
    Variant("labels alone, all stages", labels_alone=True),
    Variant("without circles", method="xmask-without-circles"),
    Variant("without Gaussian smoothing", xmask={"sigma": 0.1, "eval_sigma": 0.1}),
    Variant("without centre sampling", method="xmask-at-cells"),
    Variant("every (N / 50)-th drawn", method="xmask-every-few"),
    Variant("overlapping masks", method="xmask-overlapping"),
    Variant("single peak, hard", xmask={"single_peak_weight": 0.0}),  # it has no gradient: it can only be left out
    Variant("constraint at pixels, unit mass", xmask=AS_PUBLISHED),
    Variant("P2R, all candidates", ONE, xmask={"pseudo_points": "cells"}),
    Variant("all candidates", xmask={"pseudo_points": "cells"}),
    Variant("both as published", xmask={"pseudo_points": "cells", **AS_PUBLISHED}),
]


@dataclass(frozen=True, eq=False)
class Study:
    """A dataset with prepared masks, in which every variant is trained with every seed.

    ``shares_masks_of`` names the study that prepared the same dataset.
    """

    name: str
    root: Path
    config: TrainConfig
    seeds: tuple[int, ...]
    variants: Sequence[Variant]
    shares_masks_of: str | None = None

    @cached_property
    def dataset(self) -> Dataset:
        return load_dataset(self.root)

    @cached_property
    def masks(self) -> Path:
        return prep_masks(self.dataset, WORK / (self.shares_masks_of or self.name) / "masks", workers=None).folder

    def run(self, variant: Variant, seed: int) -> Path:
        """The folder of a finished run, trained where need be."""
        config = _configured(self.config, variant, seed)
        pretrained = self._pretrained(variant, seed)
        if variant.stages == ONE:
            return pretrained
        later = replace(config, pretrain=replace(config.pretrain, epochs=0))
        segmented = self._train(train_seg, f"{variant.name}, two stages", seed, later, pretrained)
        if variant.stages == TWO:
            return segmented
        return self._train(train_count, variant.name, seed, config, segmented)

    def _pretrained(self, variant: Variant, seed: int) -> Path:
        """Stage 1, which variants share: alone it lasts as long as all three together."""
        own = {name: value for name, value in variant.xmask.items() if name in IN_PRETRAIN}
        config = _configured(self.config, Variant("", labels_alone=variant.labels_alone, xmask=own), seed)
        epochs = config.pretrain.epochs
        if variant.stages == ONE:
            epochs += config.segment.epochs + config.count.epochs
        config = replace(
            config, pretrain=replace(config.pretrain, epochs=epochs), segment=replace(config.segment, epochs=0)
        )
        labels = " ".join(["labels" if variant.labels_alone else "all images", *map(str, own.values())])
        return self._train(train_seg, f"pretrained on {labels}, {epochs} epochs", seed, config)

    def _train(
        self, train: Callable[..., Any], name: str, seed: int, config: TrainConfig, start: Path | None = None
    ) -> Path:
        """Into its folder, unless that is done; on with it where it was begun."""
        run = WORK / self.name / f"{name.replace(' ', '-').replace(',', '').replace('/', '-')}-{seed}"
        state = files.read_json(run / "run.json") if (run / "run.json").is_file() else {}
        if state and not state.get("finished"):
            train(out=run, resume=True)
        elif not state:
            train(self.root, masks=self.masks, out=run, config=config, from_run=start)
        return run

    def score(self, run: Path) -> dict[str, float]:
        """Test scores, in percent but for MAE and RMSE."""
        result = evaluate(run, self.dataset, split="test", masks=self.masks)
        assert result.instances is not None and result.counting.mae is not None
        return {
            "MAE": result.counting.mae,
            "RMSE": result.counting.rmse or math.nan,
            "F1": 100 * result.localization["8 px"].f1,
            "mean IoU C": 100 * (result.instances.mean_iou_c or 0),
            "circles": 100 * self._circles(run),
        }

    def _circles(self, run: Path) -> float:
        """Mean IoU C of plain circles around the same people."""
        model, quality = load(run), MeanIoU()
        for sample in self.dataset.split("test"):
            people = model.predict(sample.image, masks=False)
            quality += mean_iou_c(Crowd.of(people.points, sample.size).nearest, self._truth(sample))
        return quality.value or 0.0

    def _truth(self, sample: Sample) -> LabelMap:
        if sample.masks is not None:
            return rle.to_label_map(sample.masks, sample.size)
        return MaskStore.open(self.masks).labels(sample)


def _configured(config: TrainConfig, variant: Variant, seed: int) -> TrainConfig:
    config = replace(config, seed=seed, method=variant.method, xmask=replace(config.xmask, **variant.xmask))
    if not variant.labels_alone:
        return config
    stages = {name: replace(getattr(config, name), unlabelled_max=0.0) for name in ("pretrain", "segment", "count")}
    return replace(config, **stages)


def run(options: Options) -> Report:
    scores = {"MAE": ".1f", "RMSE": ".1f", "F1": ".1f", "mean IoU C": ".1f", "circles": ".1f"}
    columns = [plain("data"), plain("variant"), plain("seeds", "d"), *(_spread(*score) for score in scores.items())]
    report = Report(
        "Accuracy on the test split, mean ± standard deviation over seeds", columns, lambda row: row["data"]
    )
    for study in _studies(options.quick):
        for variant in study.variants:
            found = [study.score(study.run(variant, seed)) for seed in study.seeds]
            values = {name: [score[name] for score in found] for name in scores}
            report.add(data=study.name, variant=variant.label, seeds=len(found), **values)
    return report


def _spread(name: str, style: str) -> Column:
    def text(row: Row) -> str:
        values = row[name]
        return show(mean(values), style) + (f" ± {stdev(values):{style}}" if len(values) > 1 else "")

    return Column(name, text)


def _studies(quick: bool) -> Iterator[Study]:
    if quick:
        config = make_config("demo", ratio=0.2, overrides=["pretrain.epochs=2", "segment.epochs=1", "count.epochs=1"])
        yield Study("quick", _synthetic("quick", 20, (96, 128), (3, 8)), config, (1,), MAIN)
        return
    yield _drawn_crowd()
    yield from _real_crowds()


def _drawn_crowd() -> Study:
    """A synthetic crowd, a tenth of it labelled."""
    epochs = ["pretrain.epochs=57", "segment.epochs=9", "count.epochs=4"]
    rates = ["segment.lr=2e-4", "segment.mask_lr=2e-3", "segment.warmup_epochs=3", "count.lr=1e-4"]
    config = make_config("demo", ratio=0.1, overrides=[*epochs, *rates, *ADVISED])
    root = _synthetic("synthetic", 100, (384, 512), (20, 80))
    return Study("synthetic", root, config, (1, 2, 3), MAIN + ABLATIONS)


REAL_NETWORK = (
    "backbone=mobilenet_v2",
    "width=64",
    "freeze_batch_norm=true",
    "batch_size=8",
    "amp=true",
    "val_fraction=0.1",
    "eval_every=8",
    "eval_images=16",
    "xmask.momentum=0.99",
)
REAL_STAGES = (
    "pretrain.epochs=46",
    "pretrain.lr=5e-4",
    "pretrain.encoder_lr=1e-4",
    "segment.epochs=10",
    "segment.lr=1e-4",
    "segment.mask_lr=1e-3",
    "segment.warmup_epochs=3",
    "count.epochs=8",
    "count.lr=1e-4",
)


def _real_crowds() -> Iterator[Study]:
    """ShanghaiTech A with the published lists of labelled images, on a schedule of about an hour of one core each."""
    root, lists = real_data("ShanghaiTech/part_A"), real_data("protocols")
    weights = real_data("../weights/mobilenet_v2-imagenet.safetensors")
    if root is None or lists is None or weights is None:
        return
    for share in (40, 5):
        config = make_config(
            "demo",
            protocol=str(lists / f"sha-{share}.txt"),
            overrides=[*REAL_NETWORK, f"backbone_weights={weights}", *REAL_STAGES, *ADVISED],
        )
        yield Study(f"ShanghaiTech A {share} %", root, config, (1,), MAIN, "ShanghaiTech A")


def _synthetic(name: str, images: int, size: Size, people: tuple[int, int]) -> Path:
    return write_synthetic(WORK / name / "data", images, people, size, 0)
