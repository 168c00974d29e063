"""Encoders with two taps, at stride 8 and stride 16: torchvision's, and a tiny one for CPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from crowdseg.errors import DataError, SetupError, UsageError

FINE_STRIDE, COARSE_STRIDE = 8, 16
CLASSIFIERS = ("classifier", "fc", "head")  # names of what the encoders leave out


class Backbone(nn.Module):
    """Runs ``to_fine`` then ``to_coarse``.

    Input ``(B, 3, H, W)``, H and W multiples of 32. Output: ``(B, C8, H/8, W/8)`` and ``(B, C16, H/16, W/16)``.
    """

    def __init__(self, to_fine: nn.Module, to_coarse: nn.Module) -> None:
        super().__init__()
        self.to_fine, self.to_coarse = to_fine, to_coarse
        self.channels = _channels(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.to_fine(images)
        return fine, self.to_coarse(fine)


def build_backbone(name: str, weights: str = "none") -> Backbone:
    """The encoder ``name``: ``tiny`` or a torchvision classifier with stride 8 and 16 stages (``vgg16_bn``, ...).

    Args:
        weights: ``none``, ``imagenet`` (torchvision's download) or the path of a safetensors or state-dict file.

    Raises:
        UsageError: there is no such backbone, or it has no taps at strides 8 and 16.
        SetupError: the weights cannot be downloaded.
        DataError: the weights file is unreadable or does not fit.
    """
    if name == "tiny":
        if weights != "none":
            raise UsageError("The backbone `tiny` has no weights to load: pass --backbone-weights none.")
        return _tiny()
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UsageError(f"There is no backbone `{name}`: use `tiny`, `vgg16_bn`, `mobilenet_v2`, `resnet50`, ...")
    network = torchvision.models.get_model(name, weights=None)
    _load_classifier(network, name, weights)
    return _split(name, network)


def _tiny() -> Backbone:
    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    to_fine = block(3, 16, 2) + block(16, 32, 2) + block(32, 32, 1) + block(32, 64, 2) + block(64, 64, 1)
    to_coarse = block(64, 96, 2) + block(96, 96, 1) + block(96, 96, 1)
    return Backbone(nn.Sequential(*to_fine), nn.Sequential(*to_coarse))


def _split(name: str, network: nn.Module) -> Backbone:
    """Cut a classifier behind its last layer at stride 8, and again behind its last layer at stride 16."""
    layers = list(_feature_layers(network))
    strides = _strides(layers)
    if FINE_STRIDE not in strides or COARSE_STRIDE not in strides:
        raise UsageError(
            f"The backbone `{name}` has no stages at strides 8 and 16: choose `vgg16_bn` or `mobilenet_v2`."
        )
    fine_end = len(strides) - strides[::-1].index(FINE_STRIDE)
    coarse_end = len(strides) - strides[::-1].index(COARSE_STRIDE)
    return Backbone(nn.Sequential(*layers[:fine_end]), nn.Sequential(*layers[fine_end:coarse_end]))


def _feature_layers(network: nn.Module) -> list[nn.Module]:
    features = getattr(network, "features", None)
    if isinstance(features, nn.Sequential):
        return list(features)
    # ResNet and kin: everything in front of the pooling is run in order of definition
    return [layer for layer in network.children() if not isinstance(layer, nn.AdaptiveAvgPool2d | nn.Linear)]


@torch.no_grad()
def _strides(layers: list[nn.Module]) -> list[int]:
    """Stride behind each layer, up to where the layers can no longer be run one after the other."""
    side, strides = 128, []
    x = torch.zeros(1, 3, side, side)
    for layer in layers:
        try:
            x = layer.eval()(x)
        except Exception:  # transformers and detectors refuse with whatever error they have
            break
        if x.ndim != 4 or side % x.shape[-1]:
            break
        strides.append(side // x.shape[-1])
    for layer in layers:
        layer.train()
    return strides


@torch.no_grad()
def _channels(backbone: Backbone) -> tuple[int, int]:
    training = backbone.training
    fine, coarse = backbone.eval()(torch.zeros(1, 3, 64, 64))
    backbone.train(training)
    return fine.shape[1], coarse.shape[1]


def _load_classifier(network: nn.Module, name: str, weights: str) -> None:
    if weights == "none":
        return
    if weights == "imagenet":
        state = _download(name)
    else:
        state = read_state(Path(weights))
    # without the classifier: a file for other classes, or for the features alone, is as good
    state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
    try:
        missing, _ = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise DataError(
            f"{weights} does not hold weights of `{name}` ({str(error).splitlines()[-1].strip()})."
        ) from error
    lacking = [key for key in missing if not key.startswith(CLASSIFIERS)]
    if lacking:
        raise DataError(f"{weights} does not hold weights of `{name}` (lacks {lacking[0]}).")


def _download(name: str) -> dict[str, Tensor]:
    import torchvision

    try:
        return torchvision.models.get_model_weights(name).DEFAULT.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise SetupError(
            f"The ImageNet weights of `{name}` cannot be downloaded ({error}): pass --backbone-weights FILE, or `none`."
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a ``.safetensors`` file or a ``torch.save`` file (tensors only, nothing is executed)."""
    if not path.is_file():
        raise UsageError(f"There is no weights file {path}.")
    readers: dict[bool, Callable[[Path], dict[str, Tensor]]] = {True: _read_safetensors, False: _read_torch}
    try:
        return readers[path.suffix == ".safetensors"](path)
    except Exception as error:  # the readers raise many kinds of errors on foreign files
        raise DataError(f"{path} is not a readable weights file ({type(error).__name__}: {error}).") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _read_torch(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state.get("state_dict", state)
