"""What stands on the encoder: the fused features, the density head and the mask head (spec section 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUT_STRIDE = 4
EMBEDDING_CHANNELS = 16


class Fuse(nn.Module):
    """Both taps to ``width`` channels at stride 8: 1x1 convolutions, the coarse one resized, summed, then 3x3."""

    def __init__(self, channels: tuple[int, int], width: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(channels[0], width, 1)
        self.coarse = nn.Conv2d(channels[1], width, 1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        resized = F.interpolate(self.coarse(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.mix(self.fine(fine) + resized)


class DensityHead(nn.Module):
    """``(B, width, H/8, W/8)`` -> logits z ``(B, H/4, W/4)``; a cell with z > 0 is a located person."""

    # A cell is a person's in a few cases of a hundred: starting there spares the first epochs (as in focal loss).
    PRIOR_LOGIT = -3.0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * 4, 3, padding=1),
            nn.PixelShuffle(2),
        )
        last = self.layers[-2]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.normal_(last.weight, std=0.01)
        last.bias.data[:4], last.bias.data[4:] = -self.PRIOR_LOGIT / 2, self.PRIOR_LOGIT / 2

    def forward(self, features: Tensor) -> Tensor:
        absent, present = self.layers(features).unbind(1)
        return present - absent


class MaskHead(nn.Module):
    """``(B, width, H/8, W/8)`` and coordinates -> unit embeddings ``(B, 16, H/4, W/4)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width + 2, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width * 4, 3, padding=1),
            nn.PixelShuffle(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, EMBEDDING_CHANNELS, 1),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, coordinates: Tensor) -> Tensor:
        return F.normalize(self.layers(torch.cat([features, coordinates], 1)), dim=1)
