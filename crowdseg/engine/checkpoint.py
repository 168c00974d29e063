"""Runs on disk.

A run is a folder: ``config.yaml`` (every setting used), ``weights.safetensors`` (the best teacher so far) with
``weights.json`` beside it (method, stage, scores, data), ``resume.pt`` (everything needed to go on), logs and pictures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from crowdseg import files
from crowdseg.engine.records import read_record
from crowdseg.errors import DataError, UsageError
from crowdseg.models.backbone import read_state

TASKS = ("seg", "count")


def save_weights(run: Path, network: nn.Module, record: dict[str, Any]) -> None:
    """The network's weights and their record; the record is written last."""
    with files.atomic(run / "weights.safetensors") as temporary:
        save_file({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}, temporary)
    files.write_json(run / "weights.json", record)


def load_weights(run: Path, network: nn.Module) -> dict[str, Any]:
    """Fill the network from a run; returns the weights' record."""
    state = read_state(run / "weights.safetensors")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(f"{run / 'weights.safetensors'} does not fit the run's config.yaml: {error}") from error
    return read_record(run / "weights.json")


def save_resume(run: Path, state: dict[str, Any]) -> None:
    with files.atomic(run / "resume.pt") as temporary:
        torch.save(state, temporary)


def load_resume(run: Path) -> dict[str, Any] | None:
    """What :func:`save_resume` wrote, or None where nothing was written yet."""
    file = run / "resume.pt"
    if not file.is_file():
        return None
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors on damaged files
        raise DataError(f"{file} is damaged ({type(error).__name__}): delete it to begin the run anew.") from error


@dataclass(frozen=True)
class RunInfo:
    """A run found on disk."""

    folder: Path
    record: dict[str, Any]


def find_run(run: Path | str | None = None, task: str | None = None) -> RunInfo:
    """The run in the folder ``run``, or the newest one under ``./runs`` (of ``task``, where given).

    Raises:
        UsageError: there is none, or it has no weights yet.
    """
    if run is None:
        tasks = TASKS if task is None else (task,)
        found = [file for name in tasks for file in (files.RUNS / name).glob("*/weights.json")]
        if not found:
            raise UsageError(
                "There is no trained run under ./runs: run `crowdseg train-seg DATA` first, or name a run."
            )
        folder = max(found, key=lambda file: file.stat().st_mtime).parent
    else:
        folder = Path(run)
        folder = folder.parent if folder.is_file() else folder
        if not (folder / "weights.json").is_file():
            foreign = " Weights of the P2R or XMask code become a run by `crowdseg import-weights`."
            raise UsageError(
                f"{run} is not a run: expected a folder with weights.safetensors and weights.json."
                + (foreign if Path(run).is_file() else "")
            )
    return RunInfo(folder, read_record(folder / "weights.json"))


def new_run_folder(task: str, name: str) -> Path:
    """``runs/<task>/<name>``, with a number where that is taken."""
    folder, number = files.RUNS / task / name, 2
    while folder.exists():
        folder, number = files.RUNS / task / f"{name}-{number}", number + 1
    return folder


def read_last() -> dict[str, str]:
    """What the last prep-masks in this folder worked on: ``{"data": ..., "masks": ...}``, or empty."""
    file = files.RUNS / "last.json"
    try:
        last = json.loads(file.read_text())
        return {"data": str(last["data"]), "masks": str(last["masks"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
