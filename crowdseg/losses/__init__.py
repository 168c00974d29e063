"""The losses of training. Each gives the mean over the images of a batch of the loss of one image."""

from crowdseg.losses.consistency import PointMaskConsistency, point_mask_consistency
from crowdseg.losses.mask_constraint import MaskConstraint, mask_constraint_loss
from crowdseg.losses.p2r import p2r_loss
from crowdseg.losses.semi import semi_supervised, unlabelled_weight
from crowdseg.ops.pull_push import pull_push_loss

__all__ = [
    "MaskConstraint",
    "PointMaskConsistency",
    "mask_constraint_loss",
    "p2r_loss",
    "point_mask_consistency",
    "pull_push_loss",
    "semi_supervised",
    "unlabelled_weight",
]
