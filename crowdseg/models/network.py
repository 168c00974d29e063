"""The XMask network: encoder, fuse, density head, mask head."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crowdseg.models.backbone import COARSE_STRIDE, FINE_STRIDE, Backbone
from crowdseg.models.heads import DensityHead, Fuse, MaskHead

PAD_TO = 32
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class Output(NamedTuple):
    """Logits ``(B, H/4, W/4)`` and unit embeddings ``(B, 16, H/4, W/4)`` (None where not asked for)."""

    logits: Tensor
    embedding: Tensor | None


class Network(nn.Module):
    """Images ``(B, 3, H, W)``, normalised, H and W multiples of 32 -> :class:`Output`.

    Args:
        backbone: the encoder.
        width: channels of the fused features and the heads (256 as published).
    """

    def __init__(self, backbone: Backbone, width: int = 256) -> None:
        super().__init__()
        self.encoder = backbone
        self.fuse = Fuse(backbone.channels, width)
        self.density_head = DensityHead(width)
        self.mask_head = MaskHead(width)

    def forward(
        self,
        images: Tensor,
        with_masks: bool = True,
        origin: tuple[int, int] = (0, 0),
        canvas: tuple[int, int] | None = None,
    ) -> Output:
        """``origin`` (y, x) and ``canvas`` (H, W) in pixels say where a tile lies in its whole image."""
        features = self.fuse(*self.encoder(images))
        logits = self.density_head(features)
        if not with_masks:
            return Output(logits, None)
        grid = _coordinates(features, origin, canvas or (images.shape[-2], images.shape[-1]))
        return Output(logits, self.mask_head(features, grid))


def _coordinates(features: Tensor, origin: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
    """x and y of every cell in [-1, 1] over the whole canvas: ``(B, 2, h, w)``."""
    axes = []
    for start, length, cells in zip(origin, canvas, features.shape[-2:], strict=True):
        total = max(length // FINE_STRIDE - 1, 1)
        cell = torch.arange(cells, device=features.device, dtype=torch.float32) + start // FINE_STRIDE
        axes.append(2 * cell / total - 1)
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y]).to(features.dtype).expand(len(features), -1, -1, -1)


def folded(network: Network) -> Network:
    """A copy for prediction: batch norms are in the convolutions in front of them, the weights in channels-last order.

    The same outputs up to rounding, in about half of the time on a CPU.
    """
    copy = deepcopy(network).eval()
    for block in [module for module in copy.modules() if isinstance(module, nn.Sequential)]:
        for index, (layer, following) in enumerate(pairwise(list(block))):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                block[index], block[index + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()
    return copy.to(memory_format=torch.channels_last)


def activation_bytes(network: Network, with_masks: bool) -> float:
    """The most that a layer's input and output take together, in bytes for every pixel of the image (float32)."""
    side, most = 64, 0

    def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal most
        most = max(most, sum(each.nbytes for each in inputs) + output.nbytes)

    _run_watched(network, [m for m in network.modules() if not list(m.children())], add, side, with_masks)
    return most / side**2


def receptive_radius(network: Network) -> int:
    """How far, in pixels, an output cell can see: an upper bound from kernel sizes and strides, a multiple of 32."""
    side, reach = 64, 0.0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        nonlocal reach
        kernel, dilation = _first(module.kernel_size), _first(module.dilation)
        reach += dilation * (kernel - 1) / 2 * side / inputs[0].shape[-1]

    _run_watched(network, [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)], add, side)
    reach += COARSE_STRIDE  # the bilinear resize of the coarse tap
    return int(-(-reach // PAD_TO)) * PAD_TO


@torch.no_grad()
def _run_watched(
    network: Network, watched: list[nn.Module], hook: Callable[..., None], side: int, with_masks: bool = True
) -> None:
    """One image of ``side`` x ``side`` pixels through the network, ``hook(module, inputs, output)`` at each layer."""
    handles = [module.register_forward_hook(hook) for module in watched]
    training = network.training
    network.eval()(torch.zeros(1, 3, side, side, device=next(network.parameters()).device), with_masks)
    network.train(training)
    for handle in handles:
        handle.remove()


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def normalise(images: Tensor) -> Tensor:
    """``(..., 3, H, W)`` uint8 -> float32 with ImageNet's mean and deviation, in the same order of memory."""
    mean, std = (torch.tensor(each, device=images.device) for each in (IMAGE_MEAN, IMAGE_STD))
    pixels = images.movedim(-3, -1)
    if not pixels.is_contiguous():
        return images.to(torch.float32, copy=True).div_(255).sub_(mean.view(3, 1, 1)).div_(std.view(3, 1, 1))
    # Three channels side by side do not fill a vector of the processor; rows do.
    width = pixels.shape[-2]
    rows = pixels.flatten(-2).to(torch.float32, copy=True)
    rows.div_(255).sub_(mean.repeat(width)).div_(std.repeat(width))
    return rows.view(pixels.shape).movedim(-1, -3)
