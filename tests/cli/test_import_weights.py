"""Checkpoints of the papers' code, P2R's and XMask's: random ones of their names and shapes, against a forward pass
that is written here with nothing but torch.nn.functional."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import crowdseg
from crowdseg.config import make_config
from crowdseg.errors import DataError, UsageError
from crowdseg.models import normalise

WIDTH = 16  # of fuse and heads; published 256
State = dict[str, Tensor]
# VGG16-BN up to its fifth pooling: output channels of the convolutions, M for a pooling
LAYERS = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512]
CUT = 33  # modules in front of the fourth pooling


def published(masks: bool, seed: int) -> State:
    """A state dict as the published networks have it."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def convolution(name: str, inputs: int, outputs: int, side: int, bias: bool = True) -> None:
        scale = (2 / (inputs * side * side)) ** 0.5
        state[f"{name}.weight"] = scale * torch.randn(outputs, inputs, side, side, generator=generator)
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    def norm(name: str, channels: int) -> None:
        for key, spread, middle in (("weight", 0.2, 1), ("bias", 0.1, 0), ("running_mean", 0.2, 0)):
            state[f"{name}.{key}"] = spread * torch.randn(channels, generator=generator) + middle
        state[f"{name}.running_var"] = torch.rand(channels, generator=generator) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    inputs = 3
    for kind, number, channels in encoder_modules():
        block, index = (0, number) if number < CUT else (1, number - CUT)
        if kind == "convolution":
            convolution(f"encoders.{block}.{index}", inputs, channels, 3)
            norm(f"encoders.{block}.{index + 1}", channels)
            inputs = channels
    for number in (0, 1):
        convolution(f"fuse_layer.align_layers.{number}", 512, WIDTH, 1)
    convolution("fuse_layer.fuse.0", WIDTH, WIDTH, 3)
    convolution("decoders.0.0", WIDTH, WIDTH, 3)
    convolution("decoders.1.0", WIDTH, WIDTH, 3)
    convolution("decoders.2", WIDTH, 8, 3)
    if masks:
        for name, width in (("layer1", WIDTH + 2), ("layer2", WIDTH)):
            convolution(f"maskhead.{name}.0", width, WIDTH, 3, bias=False)
            norm(f"maskhead.{name}.1", WIDTH)
        convolution("maskhead.upsample_conv", WIDTH, 4 * WIDTH, 3)
        convolution("maskhead.out_conv", WIDTH, 16, 1)
    return state


def encoder_modules() -> list[tuple[str, int, int]]:
    """(kind, number of the module in torchvision's features, channels); batch norm and ReLU follow a convolution."""
    found, number = [], 0
    for layer in LAYERS:
        found.append(("pooling", number, 0) if layer == "M" else ("convolution", number, int(layer)))
        number += 1 if layer == "M" else 3
    return found


def forward(state: State, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """The published forward pass: logits ``(B, h, w)`` and embeddings ``(B, 16, h, w)`` or None."""

    def convolve(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys))

    x, taps = images, []
    for kind, number, _ in encoder_modules():
        block, index = (0, number) if number < CUT else (1, number - CUT)
        if number == CUT:
            taps.append(x)
        if kind == "pooling":
            x = F.max_pool2d(x, 2)
        else:
            x = F.relu(norm(convolve(x, f"encoders.{block}.{index}"), f"encoders.{block}.{index + 1}"))
    fine, coarse = convolve(taps[0], "fuse_layer.align_layers.0"), convolve(x, "fuse_layer.align_layers.1")
    fused = fine + F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
    fused = convolve(fused, "fuse_layer.fuse.0")
    x = F.relu(convolve(F.relu(convolve(fused, "decoders.0.0")), "decoders.1.0"))
    absent, present = F.pixel_shuffle(convolve(x, "decoders.2"), 2).unbind(1)
    if "maskhead.out_conv.weight" not in state:
        return present - absent, None

    rows, columns = torch.linspace(-1, 1, fused.shape[2]), torch.linspace(-1, 1, fused.shape[3])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    features = torch.cat([fused, x.expand(len(fused), 1, -1, -1), y.expand(len(fused), 1, -1, -1)], 1)
    for name in ("layer1", "layer2"):
        features = F.relu(norm(convolve(features, f"maskhead.{name}.0"), f"maskhead.{name}.1"))
    features = F.relu(F.pixel_shuffle(convolve(features, "maskhead.upsample_conv"), 2))
    return present - absent, F.normalize(convolve(features, "maskhead.out_conv"), dim=1)


@pytest.fixture(scope="module")
def xmask(tmp_path_factory) -> Path:
    """A checkpoint as XMask's trainer writes it: both networks, the best scores, random states of all libraries."""
    file = tmp_path_factory.mktemp("sha-L5") / "ckpt_best.pth"
    of_numpy = np.random.get_state()  # noqa: NPY002  as theirs
    random_states = {"python": random.getstate(), "numpy": of_numpy, "torch": torch.get_rng_state()}
    content = {
        "checkpoint_version": 2,
        "epoch": 3,
        "teacher": published(True, 1),
        "student": published(True, 2),
        "best": {"mae": np.float64(3.5), "mse": 4.0},
        "phase": 2,
        "rng_state": random_states,
    }
    torch.save(content, file)
    return file


@pytest.fixture(scope="module")
def p2r(tmp_path_factory) -> Path:
    """A checkpoint as P2R's trainer writes it: no mask head."""
    file = tmp_path_factory.mktemp("p2r") / "ckpt_epoch_best.pth"
    networks = {"teacher": published(False, 1), "student": published(False, 2)}
    torch.save({**networks, "epoch": 3, "max_accuracy": (1.0, 2.0, 3.0)}, file)
    return file


@pytest.mark.parametrize(("part", "seed"), [("student", 2), ("teacher", 1)])
def test_the_network_gives_what_the_published_one_gives(xmask: Path, tmp_path: Path, part: str, seed: int) -> None:
    imported = crowdseg.import_weights(xmask, part=part, out=tmp_path / "run")
    assert imported.masks
    check_same_output(tmp_path / "run", published(True, seed))


def test_p2r_counts_and_draws_no_masks(p2r: Path, tmp_path: Path) -> None:
    imported = crowdseg.import_weights(p2r, out=tmp_path / "run")
    assert not imported.masks
    check_same_output(tmp_path / "run", published(False, 2))
    prediction = crowdseg.load(tmp_path / "run", "cpu").predict(np.full((40, 50, 3), 90, np.uint8), masks=True)
    assert prediction.labels is None and not prediction.has_masks


def check_same_output(run: Path, state: State) -> None:
    images = normalise(torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(5)))
    expected = forward(state, images)
    model = crowdseg.load(run, "cpu")
    with torch.inference_mode():
        found = model.network(images, expected[1] is not None)
    assert expected[0].std() > 0.1
    torch.testing.assert_close(found.logits, expected[0], rtol=1e-4, atol=1e-4)
    if expected[1] is not None:
        torch.testing.assert_close(found.embedding, expected[1], rtol=1e-4, atol=1e-4)


def test_a_bare_dictionary_of_several_processes(p2r: Path, tmp_path: Path) -> None:
    torch.save({f"module.{name}": value for name, value in published(False, 2).items()}, tmp_path / "student.pth")
    crowdseg.import_weights(tmp_path / "student.pth", out=tmp_path / "run")
    check_same_output(tmp_path / "run", published(False, 2))


class Foreign:
    """What weights_only does not load."""


def without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: {"student": Foreign()}, "not a torch file of tensors and plain values.*Foreign"),
        (lambda: [1, 2], "no dictionary of weights, but a list"),
        (lambda: {"teacher": published(False, 1)}, "holds no `student`: choose the other with --weights"),
        (lambda: {"student": {}}, "no dictionary of weights"),
        (lambda: {"fc.weight": torch.zeros(3)}, "`fc.weight` is no layer of theirs"),
        (lambda: without(published(False, 1), "fuse_layer.fuse.0.weight"), "lacks `fuse_layer.fuse.0.weight`"),
        (lambda: without(published(False, 1), "decoders.2.bias"), "does not fit.*density_head.layers.4.bias"),
        (lambda: without(published(True, 1), "maskhead.layer1.1.bias"), "does not fit.*mask_head.layers.1.bias"),
        (lambda: {**published(False, 1), "decoders.2.bias": torch.zeros(4)}, "does not fit.*size mismatch"),
    ],
)
def test_what_is_not_theirs_is_refused_and_leaves_nothing(
    tmp_path: Path, content: Callable[[], object], message: str
) -> None:
    torch.save(content(), tmp_path / "foreign.pth")
    with pytest.raises(DataError, match=message) as error:
        crowdseg.import_weights(tmp_path / "foreign.pth", out=tmp_path / "run")
    assert str(error.value).startswith(str(tmp_path / "foreign.pth")) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_unknown_parts_are_refused(p2r: Path) -> None:
    with pytest.raises(UsageError, match="no part `ema`"):
        crowdseg.import_weights(p2r, part="ema")


# The command line


def command(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(Path(sys.executable).with_name("crowdseg")), *map(str, arguments)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)


def test_an_imported_run_is_evaluated_and_predicts_and_is_exported(tmp_path: Path, xmask: Path, crowd) -> None:
    done = command(tmp_path, "import-weights", xmask)
    assert done.returncode == 0, done.stderr
    run = Path("runs/seg") / f"{xmask.parent.name}-ckpt_best"
    assert str(run) in done.stdout and "student" in done.stdout
    photo = next((crowd.data).rglob("test_data/images/*.jpg"))
    for words in (["eval", run, crowd.data], ["predict", photo, run], ["export", run, "--format", "torchscript"]):
        done = command(tmp_path, *words)
        assert done.returncode == 0, done.stderr
    metrics = json.loads(next(tmp_path.glob("runs/eval/*/metrics.json")).read_text())
    assert metrics["instances"]["mean_iou_c"] is not None
    card = next(tmp_path.glob("runs/export/*/README.md")).read_text()
    assert "not learned with\ncrowdseg" in card and "`student` of `ckpt_best.pth`" in card
    assert f"| MAE | {metrics['counting']['mae']:.2f} |" in card and "differ from the preset" not in card


def test_training_goes_on_from_imported_weights(tmp_path: Path, xmask: Path, p2r: Path, crowd) -> None:
    run = crowdseg.import_weights(xmask, out=tmp_path / "xmask").run
    with pytest.raises(
        UsageError, match="imported weights, which do not tell what they were trained on: name a dataset"
    ):
        crowdseg.train_count(from_run=run, device="cpu")
    settings = dict.fromkeys(("crop", "batch_size"), 32) | {"backbone_weights": "none", "width": WIDTH, "workers": 0}
    config = make_config("sha-10", overrides=["count.epochs=1", "val_fraction=0"], **settings)
    options = {"config": config, "masks": crowd.masks, "device": "cpu", "out": tmp_path / "count"}
    crowdseg.train_count(crowd.data, from_run=run, **options)
    weights = [load_file(folder / "weights.safetensors") for folder in (run, tmp_path / "count")]
    changed = {name.split(".")[0] for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])}
    assert changed == {"fuse", "density_head"}

    without_masks = crowdseg.import_weights(p2r, out=tmp_path / "p2r").run
    with pytest.raises(UsageError, match="p2r draws no masks, and train-count learns from them"):
        crowdseg.train_count(crowd.data, from_run=without_masks, **(options | {"out": tmp_path / "second"}))


def test_p2r_says_that_it_draws_no_masks(tmp_path: Path, p2r: Path, crowd) -> None:
    done = command(tmp_path, "import-weights", p2r, "--weights", "teacher", "--out", "p2r")
    assert done.returncode == 0 and "no mask head" in done.stderr
    photo = next((crowd.data).rglob("test_data/images/*.jpg"))
    done = command(tmp_path, "predict", photo, "--run", "p2r", "--save-masks")
    assert done.returncode == 2 and "draw no masks" in done.stderr
    done = command(tmp_path, "import-weights", p2r, "--out", "p2r")
    assert done.returncode == 2 and "p2r holds a run already" in done.stderr


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    done = command(tmp_path, "import-weights", "nowhere.pth")
    assert done.returncode == 2 and "nowhere.pth" in done.stderr
    (tmp_path / "text.pth").write_text("not a checkpoint\n")
    done = command(tmp_path, "import-weights", "text.pth")
    assert done.returncode == 1 and "text.pth" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
