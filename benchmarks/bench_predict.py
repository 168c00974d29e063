"""Predicting photographs from files to files: how much of the time the network itself takes, and how much memory a
panorama does.

The networks learn synthetic crops for a few seconds, and are then biased such that they find as many people as were
drawn: 240 a photograph, 20,000 in the panorama. ``start`` is one command for one photograph, Python and PyTorch
coming up included; ``panorama`` one for 100 megapixels.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.bench_train_step import Step
from benchmarks.common import Column, Options, Report, plain
from benchmarks.timing import clocks
from crowdseg import files
from crowdseg.config import config_text, make_config
from crowdseg.data import read_image
from crowdseg.data.synthetic import draw_scene
from crowdseg.engine import load
from crowdseg.engine.checkpoint import save_weights
from crowdseg.engine.image_files import NamedImage, find_images
from crowdseg.engine.inference import run_network
from crowdseg.engine.model import Model
from crowdseg.engine.predicting import predict_images
from crowdseg.report.prediction import Outputs, PredictionWriter

WORK = Path("runs") / "predicting"
NETWORKS = {
    "tiny, width 48": (),
    "mobilenet_v2, width 64": ("backbone=mobilenet_v2", "width=64"),
}
TASKS = {  # masks, and what is written beside counts and predictions.json
    "counts": (False, Outputs(overlay=())),
    "masks": (True, Outputs(overlay=())),
    "masks, overlays": (True, Outputs()),
}
PHOTOGRAPHS, PEOPLE, SIZE = 12, 240, (768, 1024)
PANORAMA, PANORAMA_PEOPLE, SCENE = 10_000, 20_000, 1000  # sides in pixels
REPEATED = 3


@dataclass
class Watch:
    """Adds up the seconds that a network takes."""

    read: Callable[[], float]
    seconds: float = 0.0

    def on(self, network: torch.nn.Module) -> list[Any]:
        """Hooks to be removed."""

        def start(*_: Any) -> None:
            self.seconds -= self.read()

        def stop(*_: Any) -> None:
            self.seconds += self.read()

        return [network.register_forward_pre_hook(start), network.register_forward_hook(stop)]


def run(options: Options) -> Report:
    columns = [
        plain("network"),
        plain("task"),
        plain("clock"),
        plain("ms", ".1f"),
        Column("network itself", lambda row: f"{row['share']:.1%}" if row["share"] else "-"),
        plain("people", ".0f"),
        plain("peak GB", ".2f"),
    ]
    report = Report("Predicting: a photograph of 1024 x 768 (rows of commands: one command)", columns, _section)
    images = _photographs()
    networks = list(NETWORKS)[: 1 if options.quick else None]
    for name in track(networks, "Predicting", console=Console(stderr=True), transient=True):
        folder = trained(name, images, PEOPLE)
        model = load(folder, options.device)
        for task in TASKS:
            for clock in clocks(options.device):
                row = measure(model, images, task, clock.threads)
                report.add(network=name, task=task, clock=clock.name, **row)
        if options.device == "cpu":
            report.add(network=name, task="start", clock="cpu", **command(folder, images[0].path))
    if not options.quick and options.device == "cpu":
        folder = trained(networks[0], find_images([panorama()]), PANORAMA_PEOPLE)
        for label, more in (("masks", ()), ("counts", ("--count-only",))):
            found = command(folder, panorama(), *more, repeated=1)
            report.add(network=networks[0], task=f"panorama, {label}", clock="cpu", **found)
    return report


def _section(row: dict[str, Any]) -> str:
    return str(row["network"])


def measure(model: Model, images: list[NamedImage], task: str, threads: int) -> dict[str, Any]:
    """Milliseconds an image, the network's share of them, and people an image: the quickest of some repetitions.

    With one thread it is processor time, else that of the clock on the wall.
    """
    masks, outputs = TASKS[task]
    torch.set_num_threads(threads)
    read = time.process_time if threads == 1 else time.perf_counter
    found = []
    for _ in range(REPEATED + 1):  # the first one only brings things up
        watch = Watch(read)
        hooks = watch.on(model._quick)
        begin = read()
        with PredictionWriter.open(WORK / "out", images, outputs, overwrite=True) as writer:
            people = predict_images(model, writer.todo, writer.add, masks=masks).total
        total = read() - begin
        for hook in hooks:
            hook.remove()
        found.append((total, watch.seconds / total, people))
    total, share, people = min(found[1:])
    return {"ms": total * 1e3 / len(images), "share": share, "people": people / len(images), "peak GB": None}


def command(run: Path, image: Path, *more: str, repeated: int = REPEATED) -> dict[str, Any]:
    """Processor milliseconds and peak resident memory of ``crowdseg predict`` on one file, from start to end."""
    options = ["--run", run, "--out", WORK / "command", "--overwrite"]
    line = [sys.executable, "-m", "crowdseg", "predict", *map(str, [image, *options, *more])]
    as_users = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = []
    for _ in range(repeated):
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=as_users)
        assert process.stdout is not None
        people = float(process.stdout.read().split("\t")[-1])
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0, line
        found.append((used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9, people))
    seconds, peak, people = min(found)
    return {"ms": seconds * 1e3, "share": None, "people": people, "peak GB": peak}


def trained(name: str, images: list[NamedImage], people: int) -> Path:
    """A run whose network has learnt from such scenes, and finds so many people an image."""
    folder = WORK / f"{name.replace(', ', '-').replace(' ', '-')}-{people}"
    if not (folder / "weights.json").exists():
        config = make_config("demo", overrides=list(NETWORKS[name]))
        network = Step(config, 20, "cpu").method.student.eval()
        logits = [run_network(network, read_image(image.path), masks=False).logits.flatten() for image in images]
        last = torch.cat(logits).sort(descending=True).values[people * len(images)]
        with torch.no_grad():
            network.density_head.layers[-2].bias[4:] -= last  # of "present"
        files.write_text(folder / "config.yaml", config_text(config))
        save_weights(folder, network, {"task": "seg"})
    return folder


def _photographs() -> list[NamedImage]:
    folder = WORK / "photographs"
    if not folder.exists():
        folder.mkdir(parents=True)
        random = np.random.default_rng(0)
        for index in range(PHOTOGRAPHS):
            files.write_picture(folder / f"{index}.jpg", draw_scene(random, SIZE, PEOPLE).image)
    return find_images([folder])


def panorama() -> Path:
    """Scenes side by side, every other one turned."""
    file = WORK / "panorama.jpg"
    if not file.exists():
        random = np.random.default_rng(0)
        number = (PANORAMA // SCENE) ** 2
        scenes = [draw_scene(random, (SCENE, SCENE), PANORAMA_PEOPLE // number).image for _ in range(8)]
        picture = np.empty((PANORAMA, PANORAMA, 3), np.uint8)
        for index in range(number):
            y, x = (SCENE * each for each in divmod(index, PANORAMA // SCENE))
            picture[y : y + SCENE, x : x + SCENE] = scenes[random.integers(8)][:, :: random.choice([1, -1])]
        Image.fromarray(picture).save(file, quality=90)
    return file
