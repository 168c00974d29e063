"""Weights of the papers' own code, P2R's and XMask's, as a run of ours.

Both publish one network, VGG16-BN with two taps: layer for layer the one of :mod:`crowdseg.models`, under other names.
P2R's has no mask head. The convolutions in front of the batch norms in XMask's mask head have no bias; ours have, and
get zeros.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crowdseg import __version__, files
from crowdseg.config import TrainConfig, config_text, make_config
from crowdseg.engine.checkpoint import new_run_folder, save_weights
from crowdseg.errors import DataError, UsageError
from crowdseg.models import Network, build_backbone

PARTS = ("student", "teacher")
# beginning of a published name -> beginning of ours
NAMES = {
    "encoders.0.": "encoder.to_fine.",
    "encoders.1.": "encoder.to_coarse.",
    "fuse_layer.align_layers.0.": "fuse.fine.",
    "fuse_layer.align_layers.1.": "fuse.coarse.",
    "fuse_layer.fuse.0.": "fuse.mix.",
    "decoders.0.0.": "density_head.layers.0.",
    "decoders.1.0.": "density_head.layers.2.",
    "decoders.2.": "density_head.layers.4.",
    "maskhead.layer1.0.": "mask_head.layers.0.",
    "maskhead.layer1.1.": "mask_head.layers.1.",
    "maskhead.layer2.0.": "mask_head.layers.3.",
    "maskhead.layer2.1.": "mask_head.layers.4.",
    "maskhead.upsample_conv.": "mask_head.layers.6.",
    "maskhead.out_conv.": "mask_head.layers.9.",
}
WITHOUT_BIAS = ("mask_head.layers.0.bias", "mask_head.layers.3.bias")
MASK_HEAD = "mask_head."


@dataclass(frozen=True)
class ImportedRun:
    """What :func:`import_weights` wrote.

    Attributes:
        run: the run's folder. file: what was imported. part: ``"student"`` or ``"teacher"``.
        masks: whether the weights draw masks; P2R's only count and locate.
    """

    run: Path
    file: Path
    part: str
    masks: bool


def import_weights(file: Path | str, *, part: str = "student", out: Path | str | None = None) -> ImportedRun:
    """A run folder from a checkpoint of the P2R or XMask code, for ``eval``, ``predict`` and ``export``.

    Args:
        file: a torch file with the dictionaries ``student`` and ``teacher``, or one of them alone. Tensors and plain
            values are read, nothing in it is executed.
        part: which of the two. The papers' code scores the student; the batch norm of its teacher keeps the statistics
            it began with.
        out: the run folder; default ``runs/seg/FOLDER-FILE``, for P2R's ``runs/count/FOLDER-FILE``.

    Raises:
        UsageError: there is no such file, or ``out`` holds a run. DataError: the file does not hold this network.
    """
    file = Path(file)
    if part not in PARTS:
        raise UsageError(f"There is no part `{part}`: use {' or '.join(PARTS)}.")
    if not file.is_file():
        raise UsageError(f"There is no weights file {file}.")
    state = _renamed(file, _part(file, _read(file), part))
    masks = any(name.startswith(MASK_HEAD) for name in state)
    config = make_config(backbone="vgg16_bn", backbone_weights="none", width=_width(file, state))
    with torch.random.fork_rng(devices=[]):  # a mask head that does not come with the file begins as in training
        torch.manual_seed(config.seed)
        network = Network(build_backbone(config.backbone), config.width).requires_grad_(False)
    _fill(file, network, state, masks)

    task = "seg" if masks else "count"
    run = Path(out) if out else new_run_folder(task, f"{file.resolve().parent.name}-{file.stem}")
    if any((run / name).exists() for name in ("run.json", "weights.json")):
        raise UsageError(f"{run} holds a run already: choose another --out.")
    record = _record(file, part, task, config) | {"masks": masks}
    files.write_text(run / "config.yaml", config_text(config))
    files.write_json(run / "run.json", {**record, "from": None, "finished": True})
    save_weights(run, network, record)
    return ImportedRun(run, file, part, masks)


def _record(file: Path, part: str, task: str, config: TrainConfig) -> dict[str, Any]:
    return {
        "method": config.method,
        "task": task,
        "config": asdict(config),
        "imported": {"file": str(file.resolve()), "sha256": files.sha256(file), "part": part},
        "versions": {"crowdseg": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def _read(file: Path) -> Any:
    """The checkpoint; beside tensors it may hold numpy's random state, as XMask's do."""
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors on foreign files
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds a {foreign[1]}" if foreign else "it is damaged or of another kind"
        raise DataError(
            f"{file} is not a torch file of tensors and plain values: {reason}. Where it works, load it there and save "
            "its `student` or `teacher` dictionary alone with torch.save."
        ) from error


def _numpy_globals() -> list[Any]:
    """What pickled arrays and numbers of numpy are made with: by both names, of numpy 1 and 2."""
    values: dict[str, Any] = {"_reconstruct": np.zeros(1), "scalar": np.float64(0)}
    made_with = [
        (value.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for name, value in values.items()
        for core in ("core", "_core")
    ]
    return [*made_with, np.ndarray, np.dtype, type(np.dtype(np.uint32)), type(np.dtype(np.float64))]


def _part(file: Path, content: Any, part: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise DataError(f"{file} holds no dictionary of weights, but a {type(content).__name__}.")
    if part in content:
        content = content[part]
    elif any(name in content for name in PARTS):
        raise DataError(f"{file} holds no `{part}`: choose the other with --weights.")
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{file} holds no dictionary of weights.")
    return content


def _renamed(file: Path, state: Mapping[str, Any]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        theirs = str(name).removeprefix("module.")
        begins = next((begin for begin in NAMES if theirs.startswith(begin)), None)
        if begins is None or not isinstance(value, Tensor):
            raise DataError(f"{file} does not hold weights of the P2R or XMask code: `{name}` is no layer of theirs.")
        renamed[NAMES[begins] + theirs.removeprefix(begins)] = value
    return renamed


def _width(file: Path, state: Mapping[str, Tensor]) -> int:
    if "fuse.mix.weight" not in state:
        raise DataError(f"{file} does not hold weights of the P2R or XMask code: it lacks `fuse_layer.fuse.0.weight`.")
    return state["fuse.mix.weight"].shape[0]


def _fill(file: Path, network: Network, state: dict[str, Tensor], masks: bool) -> None:
    own = network.state_dict()
    if masks:
        others = {name: torch.zeros_like(own[name]) for name in WITHOUT_BIAS}
    else:
        others = {name: value for name, value in own.items() if name.startswith(MASK_HEAD)}
    try:
        network.load_state_dict({**others, **state})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"{file} does not fit the network of the P2R and XMask code: {reason}") from error
