"""Draw ``overview.png`` for the README: points, the masks made from them, and what a trained network finds.

    python docs/images/make_overview.py WORK [IMAGE]

WORK is a folder for the synthetic crowd and the runs; what is there already is not made again. IMAGE names a test
image, as in ``IMG_12``; default the one with most people. Some minutes on two cores.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as the command line does

import numpy as np

import crowdseg
from crowdseg.config import make_config
from crowdseg.data import read_image
from crowdseg.data.synthetic import write_synthetic
from crowdseg.masks.store import MaskStore
from crowdseg.report.overlay import draw_overlay
from crowdseg.report.training import shown

IMAGES, PEOPLE, SIZE, SEED = 40, (40, 140), (384, 512), 7
RATIO = 0.5


def main(work: Path, name: str | None = None) -> None:
    write_synthetic(work / "data", IMAGES, PEOPLE, SIZE, SEED)
    crowdseg.prep_masks(work / "data", work / "masks")
    train(work)
    sample = choose(crowdseg.load_dataset(work / "data").split("test"), name)
    assert sample.points is not None
    prediction = crowdseg.predict(sample.image, work / "count")
    assert prediction.labels is not None
    image, masks = read_image(sample.image), MaskStore.open(work / "masks").labels(sample)
    panels = [
        (f"{sample.count} points", draw_overlay(image, None, sample.points)),
        ("masks made from the points", draw_overlay(image, masks, sample.points)),
        (f"prediction: {prediction.count} people", draw_overlay(image, prediction.labels, prediction.points)),
    ]
    print(f"{sample.key}, drawn to {draw(panels, Path(__file__).with_name('overview.png'))}")


def train(work: Path) -> None:
    """Both commands of the preset ``demo``, unless they were run before."""
    config = make_config("demo", ratio=RATIO)
    common = {"data": work / "data", "masks": work / "masks", "config": config}
    if not (work / "seg").exists():
        with shown() as announce:
            crowdseg.train_seg(out=work / "seg", announce=announce, **common)
    if not (work / "count").exists():
        with shown() as announce:
            crowdseg.train_count(out=work / "count", from_run=work / "seg", announce=announce, **common)


def choose(samples: list[crowdseg.Sample], name: str | None) -> crowdseg.Sample:
    """The named sample, else the one with most people."""
    if name is not None:
        return next(sample for sample in samples if sample.image.stem == name)
    return max(samples, key=lambda sample: sample.count)


def draw(panels: list[tuple[str, np.ndarray]], file: Path) -> Path:
    """Pictures side by side, each under its title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 3.4), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(picture, interpolation="lanczos")
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    figure.savefig(file, dpi=110, bbox_inches="tight")
    return file


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
