"""Exported networks beside PyTorch, at sizes that neither the exporter nor its own check has seen."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import crowdseg
from crowdseg.config import config_text, make_config
from crowdseg.engine import export
from crowdseg.engine.checkpoint import save_weights
from crowdseg.engine.inference import run_network
from crowdseg.errors import CrowdsegError, SetupError, UsageError
from crowdseg.methods import method_class

SIZES = [(64, 64), (33, 190), (131, 98)]


@pytest.fixture(scope="module", params=["onnx", "torchscript"])
def format(request) -> str:
    if request.param == "onnx":
        for package in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(package)
    return request.param


def write_run(folder: Path, *, masks: bool = True) -> Path:
    """A run with random weights, about every second cell of which says somebody is there."""
    config = make_config("demo", width=8)
    torch.manual_seed(1)
    network = method_class("xmask")(config, "none").teacher
    torch.nn.init.normal_(network.density_head.layers[-2].weight)
    torch.nn.init.zeros_(network.density_head.layers[-2].bias)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_text(config))
    save_weights(folder, network, {"masks": masks})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory, format) -> export.ExportResult:
    return crowdseg.export_model(run, format, tmp_path_factory.mktemp("exported") / "model")  # the suffix is free


def pixels(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def call(result: export.ExportResult, images: np.ndarray) -> list[np.ndarray]:
    """The exported file, by its own runtime alone."""
    if result.format == "onnx":
        import onnxruntime

        return onnxruntime.InferenceSession(result.path).run(None, {"image": images})
    return [each.numpy() for each in torch.jit.load(result.path)(torch.tensor(images))]


def test_it_finds_the_people_that_predict_finds_at_any_size(run, exported) -> None:
    assert exported.difference < 1e-4 and exported.path.is_file()
    model = crowdseg.load(run, "cpu")
    for size in SIZES:
        image = pixels(size)
        logits, embedding = call(exported, image[None])
        rows, columns = np.nonzero(logits[0] > 0)
        prediction = model.predict(image, min_score=0.5)
        assert prediction.count > 20
        np.testing.assert_array_equal(np.stack([columns, rows], 1) * 4 + 1.5, prediction.points)
        np.testing.assert_allclose(embedding, run_network(model.network, image, True).embedding, atol=1e-4)


def test_images_of_a_batch_do_not_touch_one_another(exported) -> None:
    images = np.stack([pixels((50, 70), seed) for seed in range(4)])
    together = call(exported, images)
    for number, image in enumerate(images):
        for all_four, alone in zip(together, call(exported, image[None]), strict=True):
            np.testing.assert_allclose(all_four[number], alone[0], atol=1e-4)


def test_onnx_names_its_sizes(exported) -> None:
    if exported.format != "onnx":
        pytest.skip("TorchScript has no names for sizes")
    import onnx

    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert shape(model.graph.input[0]) == ["batch", "height", "width", 3]
    assert [shape(each) for each in model.graph.output] == [
        ["batch", "rows", "columns"],
        ["batch", 16, "rows", "columns"],
    ]


def shape(value) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_without_mask_head_there_are_logits_alone(tmp_path, format) -> None:
    result = crowdseg.export_model(write_run(tmp_path / "run", masks=False), format, tmp_path / "model")
    outputs = call(result, pixels((64, 64))[None])
    assert result.outputs == ("logits",) and [each.shape for each in outputs] == [(1, 16, 16)]


def test_torchscript_runs_on_other_devices_than_the_one_it_was_traced_on(run, tmp_path) -> None:
    result = crowdseg.export_model(run, "torchscript", tmp_path / "model.pt")
    graph = str(torch.jit.load(result.path).inlined_graph)
    assert "aten::_convolution" in graph and ": Device = " not in graph


def test_a_network_that_differs_is_not_written(run, tmp_path, monkeypatch) -> None:
    right = export._coordinates
    monkeypatch.setattr(export, "_coordinates", lambda features: -right(features))
    (tmp_path / "model.pt").write_text("what was there before")
    with pytest.raises(CrowdsegError, match="differs from PyTorch"):
        crowdseg.export_model(run, "torchscript", tmp_path / "model.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]
    assert (tmp_path / "model.pt").read_text() == "what was there before"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_missing_packages_are_named_with_the_extra(run, tmp_path, monkeypatch, package) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SetupError, match=rf"needs the package {package}: .*crowdseg\[onnx\]"):
        crowdseg.export_model(run, "onnx", tmp_path / "model.onnx")


def test_bad_requests(run, tmp_path) -> None:
    with pytest.raises(UsageError, match="no export format `tflite`: use onnx or torchscript"):
        crowdseg.export_model(run, "tflite")
    with pytest.raises(UsageError, match="is a folder"):
        crowdseg.export_model(run, "torchscript", tmp_path)
