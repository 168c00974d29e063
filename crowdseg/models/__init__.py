"""Networks alone: no loss, no loop."""

from crowdseg.models.backbone import build_backbone
from crowdseg.models.heads import OUTPUT_STRIDE
from crowdseg.models.network import Network, Output, activation_bytes, folded, normalise, receptive_radius

__all__ = [
    "OUTPUT_STRIDE",
    "Network",
    "Output",
    "activation_bytes",
    "build_backbone",
    "folded",
    "normalise",
    "receptive_radius",
]
