"""The network's shapes, its coordinates in tiles, and what backbones are taken."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from crowdseg.errors import DataError, UsageError
from crowdseg.models import Network, build_backbone, normalise, receptive_radius


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(build_backbone("tiny"), width=16).eval()


def test_outputs_stand_at_stride_4_and_embeddings_have_unit_length(network: Network) -> None:
    output = network(torch.randn(2, 3, 64, 96))
    assert output.logits.shape == (2, 16, 24)
    assert output.embedding is not None and output.embedding.shape == (2, 16, 16, 24)
    assert torch.allclose(output.embedding.norm(dim=1), torch.ones(2, 16, 24), atol=1e-5)
    assert network(torch.randn(1, 3, 32, 32), with_masks=False).embedding is None


def test_a_new_density_head_finds_nobody(network: Network) -> None:
    assert (network(torch.randn(1, 3, 64, 64)).logits < 0).all()


def test_vgg16_taps_lie_in_front_of_the_last_two_poolings() -> None:
    backbone = build_backbone("vgg16_bn")
    assert backbone.channels == (512, 512)
    pools = [m for m in [*backbone.to_fine, *backbone.to_coarse] if isinstance(m, torch.nn.MaxPool2d)]  # type: ignore[misc]
    assert len(pools) == 4
    assert isinstance(backbone.to_coarse[0], torch.nn.MaxPool2d)  # type: ignore[index]


@pytest.mark.parametrize(("name", "channels"), [("mobilenet_v2", (32, 96)), ("resnet18", (128, 256))])
def test_torchvision_backbones_are_cut_at_strides_8_and_16(name: str, channels: tuple[int, int]) -> None:
    backbone = build_backbone(name)
    fine, coarse = backbone.eval()(torch.randn(1, 3, 64, 64))
    assert (fine.shape[1], coarse.shape[1]) == backbone.channels == channels
    assert (fine.shape[-1], coarse.shape[-1]) == (8, 4)


@pytest.mark.parametrize("name", ["no_such_net", "inception_v3", "vit_b_32"])
def test_backbones_that_do_not_serve_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        build_backbone(name)


def test_weights_are_read_from_safetensors_and_state_dicts(tmp_path) -> None:
    import torchvision

    torch.manual_seed(1)
    classifier = torchvision.models.mobilenet_v2()
    save_file(classifier.state_dict(), tmp_path / "net.safetensors")
    torch.save({"state_dict": classifier.state_dict()}, tmp_path / "net.pth")
    for name in ("net.safetensors", "net.pth"):
        backbone = build_backbone("mobilenet_v2", str(tmp_path / name))
        assert torch.equal(backbone.to_fine[0][0].weight, classifier.features[0][0].weight)  # type: ignore[index]


def test_a_classifier_of_other_classes_serves_as_backbone_weights(tmp_path) -> None:
    import torchvision

    state = torchvision.models.get_model("mobilenet_v2", num_classes=7).state_dict()
    torch.save(state, tmp_path / "seven.pt")
    backbone = build_backbone("mobilenet_v2", str(tmp_path / "seven.pt"))
    assert torch.equal(backbone.to_fine[0][0].weight, state["features.0.0.weight"])  # type: ignore[index]
    torch.save({**state, "features.0.0.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(DataError, match=r"other\.pt .*size mismatch"):
        build_backbone("mobilenet_v2", str(tmp_path / "other.pt"))


def test_weights_that_do_not_fit_are_refused(tmp_path) -> None:
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    for name in ("other.safetensors", "broken.pth"):
        with pytest.raises(DataError, match=name):
            build_backbone("mobilenet_v2", str(tmp_path / name))
    with pytest.raises(UsageError, match=r"missing\.pth"):
        build_backbone("mobilenet_v2", str(tmp_path / "missing.pth"))


def test_no_output_cell_sees_beyond_the_receptive_radius(network: Network) -> None:
    radius = receptive_radius(network)
    side = 2 * radius + 96
    image = torch.randn(1, 3, side, side, requires_grad=True)
    cell = side // 8
    network(image).logits[0, cell, cell].backward()
    assert image.grad is not None
    seen = torch.nonzero(image.grad.abs().sum((0, 1)))
    assert (seen - 4 * cell).abs().max() <= radius


def test_channels_last_images_are_normalised_to_the_same() -> None:
    images = torch.randint(0, 256, (2, 3, 40, 60), dtype=torch.uint8)
    plain, last = normalise(images), normalise(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(plain, last) and last.is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous() and abs(plain.mean()) < 1
