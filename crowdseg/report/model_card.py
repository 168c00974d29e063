"""The model card beside an exported network: a README of what the run's own files say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from crowdseg import __version__, files
from crowdseg.config import TrainConfig, make_config
from crowdseg.engine.export import NOBODY, ExportResult
from crowdseg.engine.model import Model
from crowdseg.engine.runs import Run, flat, read_run
from crowdseg.errors import UsageError
from crowdseg.models import OUTPUT_STRIDE
from crowdseg.models.heads import EMBEDDING_CHANNELS
from crowdseg.models.network import PAD_TO
from crowdseg.report.evaluation import NOT_DEFINED

NAME = "README.md"
MARKER = "<!-- Written by `crowdseg export`, anew with every export. -->"

OPEN = """\
import numpy as np
{imports}
from PIL import Image, ImageOps

image = np.array(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
{network}
rows, columns = np.nonzero(logits[0] > 0)
points = np.stack([columns, rows], 1) * {stride} + {centre}  # (x, y) of every person, in pixels
print(len(points), "people")"""
NETWORK = {
    "onnx": """\
network = onnxruntime.InferenceSession("{file}")
{outputs} = network.run(None, {{"image": image[None]}})""",
    "torchscript": """\
network = torch.jit.load("{file}")
{outputs} = (output.numpy() for output in network(torch.tensor(image[None])))""",
}
IMPORTS = {"onnx": "import onnxruntime", "torchscript": "import torch"}
MASKS = """\
import torch
from crowdseg import ops

size = ({stride} * logits.shape[1], {stride} * logits.shape[2])
people = torch.tensor(points, dtype=torch.float32)
radii = ops.nearest_neighbor_radii(people, max_radius=min(size) / 2)
labels = ops.energy_labels(
    torch.tensor(embedding),
    people,
    radii,
    size,
    energy_threshold={energy},
    geometry_weight={geometry},
    sigma={sigma},
)[0, : image.shape[0], : image.shape[1]]"""


def check_place(folder: Path) -> Path:
    """Where the card goes in ``folder``; UsageError where somebody else's README is there."""
    card = folder / NAME
    if card.is_file() and not card.read_text(encoding="utf-8", errors="replace").startswith(MARKER):
        raise UsageError(
            f"{card} was not written by crowdseg and would be lost: choose another folder with --out, or pass "
            "--no-card."
        )
    return card


def write_card(model: Model, exported: ExportResult) -> Path:
    """Write the card of an exported run beside the export; nothing in it is not in the run's files.

    Raises:
        UsageError: another README is in its place. DataError: the run's records are damaged.
    """
    card = check_place(exported.path.parent)
    environment = Environment(
        loader=PackageLoader("crowdseg.report", ""), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("model_card.md.jinja").render(**_facts(model, exported))
    files.write_text(card, text)
    return card


def _facts(model: Model, exported: ExportResult) -> dict[str, Any]:
    run, config, masks = read_run(model.run), model.config, model.draws_masks
    imported, parent = run.record.get("imported"), run.record.get("from")
    versions = run.record.get("versions") or {"crowdseg": "of an unknown version"}
    return {
        "marker": MARKER,
        "name": model.name,
        "run": model.run,
        "purpose": "counts people in crowds and outlines each of them"
        if masks
        else "counts and locates people in crowds",
        "masks": masks,
        "config": config,
        "imported": imported and {**imported, "file": Path(imported["file"]).name},
        "versions": versions,
        "versions_text": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "file": exported.path.name,
        "format": {"onnx": "ONNX", "torchscript": "TorchScript"}[exported.format],
        "megabytes": f"{exported.path.stat().st_size / 1e6:.1f}",
        "parameters": _parameters(model),
        "pretrained": config.backbone_weights != "none",
        "began_with": _first_weights(config),
        "parent": Path(parent).name if parent else None,
        "data": _data(run, config),
        "val": _validation(run, config),
        "test": _test(run),
        "settings": [] if imported else list(_differing(config)),
        "usage": _usage(exported),
        "mask_usage": _mask_usage(config),
        "stride": OUTPUT_STRIDE,
        "pad_to": PAD_TO,
        "channels": EMBEDDING_CHANNELS,
        "nobody": f"{NOBODY:g}",
        "exported": {"crowdseg": __version__, "torch": torch.__version__},
        "difference": f"{exported.difference:.0e}",
        "sizes": ", ".join(f"{height} × {width}" for _, height, width in exported.sizes),
    }


def _data(run: Run, config: TrainConfig) -> dict[str, Any] | None:
    if not run.data:
        return None
    choice = f"at random, a share of {config.ratio or 1:g} with seed {config.seed}"
    return {
        "name": Path(run.data["root"]).name,
        "format": run.data.get("format", "unknown"),
        "labelled": len(run.data["labelled"]),
        "unlabelled": run.data["unlabelled_images"],
        "val": len(run.data["val"]),
        "choice": f"by the list `{Path(config.protocol).name}`" if config.protocol else choice,
    }


def _validation(run: Run, config: TrainConfig) -> dict[str, Any] | None:
    images = len(run.data.get("val", ()))
    if not run.val or not images:
        return None
    quality = run.val["mean_iou_c"]
    return {
        "stage": run.val["stage"],
        "epoch": run.val["epoch"],
        "mae": _number(run.val["mae"]),
        "rmse": _number(run.val["rmse"]),
        "mean_iou_c": None if quality is None else _share(quality),
        "limit": config.eval_images if images > config.eval_images else None,
    }


def _test(run: Run) -> dict[str, Any] | None:
    """What ``crowdseg eval`` left in the run of these very weights."""
    if run.test is None:
        return None
    return {"data": Path(run.test["data"]).name, "images": run.test["images"], "figures": list(_figures(run.test))}


def _figures(scores: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "MAE", _number(scores["mae"])
    yield 'RMSE (the papers\' "MSE")', _number(scores["rmse"])
    yield "NAE", _share(scores["nae"])
    for within, f1 in scores["f1"].items():
        yield f"F1 of points within {within}", _share(f1)
    if scores["mask_truth"] is not None:
        truth = "annotated" if scores["mask_truth"] == "annotated" else "prepared from points"
        yield f"Mean IoU C, masks {truth}", _share(scores["mean_iou_c"])


def _number(value: float | None) -> str:
    return NOT_DEFINED if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return NOT_DEFINED if value is None else f"{100 * value:.1f} %"


def _parameters(model: Model) -> int:
    whole = sum(parameter.numel() for parameter in model.network.parameters())
    return whole if model.draws_masks else whole - sum(each.numel() for each in model.network.mask_head.parameters())


def _first_weights(config: TrainConfig) -> str:
    weights = config.backbone_weights
    known = {"none": "random weights", "imagenet": "torchvision's ImageNet weights"}
    return known.get(weights, f"the weights of `{Path(weights).name}`")


def _differing(config: TrainConfig) -> Iterator[dict[str, Any]]:
    preset = dict(flat(asdict(make_config(config.preset))))
    for name, value in flat(asdict(config)):
        if value != preset[name]:
            yield {"name": name, "preset": preset[name], "here": Path(value).name if name == "protocol" else value}


def _usage(exported: ExportResult) -> str:
    outputs = ", ".join(exported.outputs) + "," * (len(exported.outputs) == 1)
    return OPEN.format(
        imports=IMPORTS[exported.format],
        network=NETWORK[exported.format].format(file=exported.path.name, outputs=outputs),
        stride=OUTPUT_STRIDE,
        centre=(OUTPUT_STRIDE - 1) / 2,
    )


def _mask_usage(config: TrainConfig) -> str:
    settings = config.xmask
    return MASKS.format(
        stride=OUTPUT_STRIDE,
        energy=settings.eval_energy_threshold,
        geometry=settings.eval_geometry_weight,
        sigma=settings.eval_sigma,
    )
