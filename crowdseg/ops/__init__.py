"""The operators: geometry and features of circles around points. Each has a module of its own."""

from crowdseg._native import backend, use_backend
from crowdseg.ops.center_features import smoothed_center_features
from crowdseg.ops.energy import energy_labels
from crowdseg.ops.exclusion import exclusion_labels
from crowdseg.ops.p2r_targets import p2r_targets
from crowdseg.ops.pull_push import pull_push_loss
from crowdseg.ops.radii import nearest_neighbor_radii

__all__ = [
    "backend",
    "energy_labels",
    "exclusion_labels",
    "nearest_neighbor_radii",
    "p2r_targets",
    "pull_push_loss",
    "smoothed_center_features",
    "use_backend",
]
