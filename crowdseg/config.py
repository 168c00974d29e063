"""Training configuration: frozen dataclasses, YAML files, ``--set key=value``; saved whole with every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from crowdseg.errors import UsageError
from crowdseg.presets import PRESETS


@dataclass(frozen=True)
class StageConfig:
    """One stage of training."""

    epochs: int = 0  # one epoch is one pass over the training split
    lr: float = 5e-5
    encoder_lr: float = 0.0  # 0 freezes the encoder and keeps it in eval mode
    mask_lr: float | None = None  # of the mask head, which begins from nothing; None for lr
    weight_decay: float = 0.0
    schedule: str = "constant"  # constant | cosine
    warmup_epochs: float = 50  # epochs before unlabelled images count
    unlabelled_start: float = 0.0  # weight of the unlabelled loss when they begin to count
    unlabelled_rate: float = 0.01  # its growth per epoch
    unlabelled_max: float = 2.0  # its bound; 0 trains on the labelled part alone


@dataclass(frozen=True)
class XMaskConfig:
    """Hyper-parameters of XMask (spec sections 4-7)."""

    momentum: float = 0.998  # of the teacher's moving average
    candidate_probability: float = 0.1  # cells at or above are candidates
    pseudo_points: str = "cells"  # cells | peaks: all candidates, or those that no cell beside them exceeds
    confident_probability: float = 0.9  # cells above are confident
    doubtful_radius: float = 16.0  # discs around doubtful candidates are left out of the pull/push loss, in pixels
    threshold: float = 0.6  # tau of the pull/push loss
    margin: float = 0.1  # its m
    sigma: float = 1.5  # of the Gaussian smoothing in training, in pixels
    energy_threshold: float = 0.8
    geometry_weight: float = 0.6  # lambda of the energy
    segment_p2r_weight: float = 0.0  # P2R beside pull/push in the segmentation stage (0 as published)
    constraint_at: str = "pixels"  # pixels | cells: where the mask constraint compares logits and masks
    background_weight: float = 0.0  # w_bg of the mask constraint
    unit_mass_weight: float = 0.005  # w_fg
    single_peak_weight: float = 0.0  # w_1, on the soft count that has a gradient
    single_peak_temperature: float = 1.0
    consistency_weight: float = 0.0  # the trainable point-mask consistency (off as published)
    eval_energy_threshold: float = 1.1
    eval_geometry_weight: float = 0.8
    eval_sigma: float = 3.0


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a run. ``pretrain`` and ``segment`` are train-seg's stages, ``count`` is train-count's."""

    preset: str = "sha-10"
    method: str = "xmask"
    backbone: str = "vgg16_bn"
    backbone_weights: str = "imagenet"  # imagenet | none | a file
    width: int = 256
    ratio: float | None = 0.1  # labelled share of the training images
    protocol: str | None = None  # a file with the labelled images' names, instead of a ratio
    val_fraction: float = 0.1  # part of the training split that chooses the best checkpoint
    seed: int = 2024
    batch_size: int = 16  # pairs of one labelled and one unlabelled crop, over all processes
    micro_batch: int | None = None  # pairs that go through the network at once, per process; None for the whole batch
    crop: int = 256
    scale: tuple[float, float] = (0.7, 1.3)
    workers: int = 4
    clip_norm: float = 5.0
    freeze_batch_norm: bool = False  # the encoder's batch norm keeps its stored statistics: for small batches
    eval_every: int = 5  # epochs
    eval_images: int = 50  # validation images looked at
    save_seconds: float = 60.0  # between writes of the resume file
    amp: bool = False  # bfloat16 where it is safe
    compile: bool = False  # the student through torch.compile
    pretrain: StageConfig = field(default_factory=lambda: StageConfig(epochs=1500, encoder_lr=1e-5))
    segment: StageConfig = field(default_factory=lambda: StageConfig(epochs=500, lr=5e-6))
    count: StageConfig = field(
        default_factory=lambda: StageConfig(epochs=100, lr=5e-6, warmup_epochs=0, unlabelled_start=0.1)
    )
    xmask: XMaskConfig = field(default_factory=XMaskConfig)

    def __post_init__(self) -> None:
        checks = {
            "ratio": self.ratio is None or 0 < self.ratio <= 1,
            "val_fraction": 0 <= self.val_fraction < 1,
            "batch_size": self.batch_size >= 1,
            "micro_batch": self.micro_batch is None or self.micro_batch >= 1,
            "crop": self.crop >= 32 and self.crop % 32 == 0,
            "seed": self.seed >= 0,
            "workers": self.workers >= 0,
            "clip_norm": self.clip_norm > 0,
            "eval_every": self.eval_every >= 1,
            "eval_images": self.eval_images >= 1,
            "scale": 0 < self.scale[0] <= self.scale[1],
            "width": self.width >= 8,
            "xmask.pseudo_points": self.xmask.pseudo_points in ("cells", "peaks"),
            "xmask.constraint_at": self.xmask.constraint_at in ("pixels", "cells"),
        }
        for stage in ("pretrain", "segment", "count"):
            config: StageConfig = getattr(self, stage)
            checks[f"{stage}.epochs"] = config.epochs >= 0
            checks[f"{stage}.lr"] = config.lr > 0
            checks[f"{stage}.schedule"] = config.schedule in ("constant", "cosine")
        for key, fine in checks.items():
            if not fine:
                raise UsageError(f"The setting {key}={_get(self, key)} is out of range.")


def make_config(
    preset: str = "sha-10",
    file: Path | None = None,
    overrides: list[str] | None = None,
    **values: Any,
) -> TrainConfig:
    """Preset, then YAML file, then keyword values that are not None, then ``key=value`` texts; later ones win.

    Raises:
        UsageError: an unknown preset or key, or a value of the wrong type, each by name.
    """
    if file is not None:
        content = _read_yaml(file)
        preset = str(content.get("preset", preset))
    if preset not in PRESETS:
        raise UsageError(f"There is no preset `{preset}`: use one of {', '.join(PRESETS)}.")
    config = _merge(TrainConfig(preset=preset), PRESETS[preset], "the preset")
    if file is not None:
        config = _merge(config, content, str(file))
    config = _merge(config, {key: value for key, value in values.items() if value is not None}, "the options")
    for text in overrides or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected key=value.")
        if key.strip() == "preset":
            raise UsageError(f"--set {text}: a preset is chosen with --preset, or by `preset:` in a --config file.")
        try:
            nested: Any = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {text}: `{value}` is not a YAML value.") from error
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        config = _merge(config, nested, f"--set {text}")
    return config


def read_config(file: Path) -> TrainConfig:
    """The configuration that :func:`write_config` saved."""
    return make_config(file=file)


def config_text(config: TrainConfig) -> str:
    """YAML with every value, defaults included."""
    content = asdict(config)
    content["scale"] = list(config.scale)
    return yaml.safe_dump(content, sort_keys=False)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The settings {file} cannot be read: {error.strerror}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{file} is not readable YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} should hold `key: value` lines.")
    return content


def _merge(config: Any, values: Mapping[str, Any], where: str, prefix: str = "") -> Any:
    kinds = get_type_hints(type(config))
    names = [f.name for f in fields(config)]
    changes = {}
    for key, value in values.items():
        if key not in names:
            near = get_close_matches(key, names, 1)
            hint = f", did you mean `{prefix}{near[0]}`?" if near else f": choose from {', '.join(names)}."
            raise UsageError(f"{where} has an unknown setting `{prefix}{key}`{hint}")
        current = getattr(config, key)
        if is_dataclass(current):
            if not isinstance(value, Mapping):
                raise UsageError(
                    f"{where}: `{prefix}{key}` is a group of settings, as in {key}.{fields(current)[0].name}."
                )
            changes[key] = _merge(current, value, where, f"{prefix}{key}.")
        else:
            changes[key] = _convert(value, kinds[key], f"{where}: `{prefix}{key}`")
    return replace(config, **changes)


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _convert(value: Any, kind: Any, where: str) -> Any:
    """``value`` as ``kind``: bool, int, float, str, an optional one of these, or a pair of floats."""
    options = getattr(kind, "__args__", (kind,))
    if getattr(kind, "__origin__", None) is tuple:
        try:
            low, high = value
            return (float(low), float(high))
        except (TypeError, ValueError):
            raise UsageError(f"{where} should be two numbers, not {value!r}.") from None
    if value is None and type(None) in options:
        return None
    try:
        if bool in options and isinstance(value, bool):
            return value
        if int in options and not isinstance(value, bool) and int(value) == float(value):
            return int(value)
        if float in options and not isinstance(value, bool):
            return float(value)  # YAML reads 5e-5 as text
        if str in options:
            return str(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{where} should be {_NAMES[options[0]]}, not {value!r}.")


def _get(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config
