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
from crowdseg.engine.records import read_record
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
    config, record = model.config, _Record(model.record)
    run_record = read_record(model.run / "run.json") if (model.run / "run.json").is_file() else {}
    masks = model.draws_masks
    parent = run_record.get("from")
    return {
        "marker": MARKER,
        "name": model.name,
        "run": model.run,
        "purpose": "counts people in crowds and outlines each of them"
        if masks
        else "counts and locates people in crowds",
        "masks": masks,
        "config": config,
        "imported": record.imported(),
        "versions": record.versions(),
        "versions_text": ", ".join(f"{name} {version}" for name, version in record.versions().items()),
        "file": exported.path.name,
        "format": {"onnx": "ONNX", "torchscript": "TorchScript"}[exported.format],
        "megabytes": f"{exported.path.stat().st_size / 1e6:.1f}",
        "parameters": _parameters(model),
        "pretrained": config.backbone_weights != "none",
        "began_with": _first_weights(config),
        "parent": Path(parent).name if parent else None,
        "data": record.data(config),
        "val": record.val(config),
        "test": _test_scores(model),
        "settings": [] if record.imported() else list(_differing(config)),
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


class _Record:
    """What ``weights.json`` tells, made ready for print; parts that are not there are None."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record

    def versions(self) -> dict[str, str]:
        return dict(self._record.get("versions") or {"crowdseg": "of an unknown version"})

    def imported(self) -> dict[str, str] | None:
        source = self._record.get("imported")
        return {**source, "file": Path(source["file"]).name} if source else None

    def data(self, config: TrainConfig) -> dict[str, Any] | None:
        data = self._record.get("data")
        if not data:
            return None
        choice = f"at random, a share of {config.ratio or 1:g} with seed {config.seed}"
        return {
            "name": Path(data["root"]).name,
            "format": data["format"],
            "labelled": len(data["labelled"]),
            "unlabelled": data["unlabelled_images"],
            "val": len(data["val"]),
            "choice": f"by the list `{Path(config.protocol).name}`" if config.protocol else choice,
        }

    def val(self, config: TrainConfig) -> dict[str, Any] | None:
        val, data = self._record.get("val"), self._record.get("data") or {}
        if not val or not data.get("val"):
            return None
        quality = val.get("mean_iou_c")
        return {
            "stage": val["stage"],
            "epoch": val["epoch"],
            "mae": f"{val['mae']:.2f}",
            "rmse": f"{val['rmse']:.2f}",
            "mean_iou_c": None if quality is None else f"{100 * quality:.1f} %",
            "limit": config.eval_images if len(data["val"]) > config.eval_images else None,
        }


def _parameters(model: Model) -> int:
    whole = sum(parameter.numel() for parameter in model.network.parameters())
    return whole if model.draws_masks else whole - sum(each.numel() for each in model.network.mask_head.parameters())


def _first_weights(config: TrainConfig) -> str:
    weights = config.backbone_weights
    known = {"none": "random weights", "imagenet": "torchvision's ImageNet weights"}
    return known.get(weights, f"the weights of `{Path(weights).name}`")


def _differing(config: TrainConfig) -> Iterator[dict[str, Any]]:
    preset = dict(_flat(asdict(make_config(config.preset))))
    for name, value in _flat(asdict(config)):
        if value != preset[name]:
            yield {"name": name, "preset": preset[name], "here": Path(value).name if name == "protocol" else value}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _test_scores(model: Model) -> dict[str, Any] | None:
    """What ``crowdseg eval`` last wrote of these very weights, where it writes by default."""
    file = files.RUNS / "eval" / model.name / "metrics.json"
    if not file.is_file() or file.stat().st_mtime < (model.run / "weights.json").stat().st_mtime:
        return None
    scores = files.read_json(file)
    if Path(scores["source"]).resolve() != model.run.resolve():
        return None
    return {
        "split": scores["split"],
        "data": Path(scores["data"]).name,
        "images": scores["counting"]["images"],
        "figures": list(_figures(scores)),
    }


def _figures(scores: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    counting, instances = scores["counting"], scores["instances"]
    yield "MAE", _number(counting["mae"])
    yield 'RMSE (the papers\' "MSE")', _number(counting["rmse"])
    yield "NAE", _share(counting["nae"])
    for name, matches in scores["localization"].items():
        yield f"F1 of points within {name}", _share(matches["f1"])
    if instances:
        truth = "annotated" if instances["truth"] == "annotated" else "prepared from points"
        yield f"Mean IoU C, masks {truth}", _share(instances["mean_iou_c"])
        yield f"mask AP50, masks {truth}", _share(instances["ap50"])


def _number(value: float | None) -> str:
    return NOT_DEFINED if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return NOT_DEFINED if value is None else f"{100 * value:.1f} %"


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
