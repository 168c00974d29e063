"""The XMask network: encoder, fuse, density head, mask head."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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


def receptive_radius(network: Network) -> int:
    """How far, in pixels, an output cell can see: an upper bound from kernel sizes and strides, a multiple of 32."""
    side, reach = 64, 0.0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        nonlocal reach
        kernel, dilation = _first(module.kernel_size), _first(module.dilation)
        reach += dilation * (kernel - 1) / 2 * side / inputs[0].shape[-1]

    watched = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    hooks = [module.register_forward_hook(add) for module in watched]
    training = network.training
    device = next(network.parameters()).device
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side, device=device))
    network.train(training)
    for hook in hooks:
        hook.remove()
    reach += COARSE_STRIDE  # the bilinear resize of the coarse tap
    return int(-(-reach // PAD_TO)) * PAD_TO


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def normalise(images: Tensor) -> Tensor:
    """``(..., 3, H, W)`` uint8 -> float32 with ImageNet's mean and deviation."""
    mean = torch.tensor(IMAGE_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGE_STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255).sub_(mean).div_(std)
