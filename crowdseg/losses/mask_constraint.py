"""Mask constraint: the density head must stay silent off the masks and say one person in each."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from crowdseg.losses.instances import Instances, check_label_map
from crowdseg.ops.checks import check_float_map, require
from crowdseg.ops.precision import compute_dtype


class MaskConstraint(NamedTuple):
    """The terms of the mask-constraint loss: scalars, means over the images of a batch."""

    background: Tensor
    unit_mass: Tensor
    single_peak: Tensor  # soft count, trainable
    single_peak_hard: Tensor  # as published; built of booleans, for the log only


def mask_constraint_loss(
    logits: Tensor,
    labels: Tensor,
    points: Tensor | None = None,
    batch_index: Tensor | None = None,
    *,
    temperature: float = 1.0,
) -> MaskConstraint:
    """Compare the density logits with instance masks (xmask section 7).

    With U the logits resized bilinearly to the labels, per image:

    - background: mean of ``relu(U)`` off the masks;
    - unit mass: mean over instances of ``|sum relu(U) g - 1|``, where g, the ratio of the sums of ``relu(logits)`` and
      ``relu(U)``, has no gradient;
    - single peak: mean over instances of ``|sum sigmoid(U / temperature) / pixels per cell - 1|``; hard: of
      ``|number of U > 0 - 1|``.

    A term without pixels or instances adds 0 for its image.

    Args:
        logits: ``(B, h, w)`` floats.
        labels: ``(B, H, W)`` integers of the same field of view, 0 background.
        points: ``(N, 2)`` confident points as (x, y), pixels: only instances holding one count. None: all count.
        batch_index: ``(N,)`` the image of each point; None for one image.
        temperature: of the soft count; smaller is nearer to the hard one.

    Returns:
        The four terms, float64 for float64 logits, else float32.

    Raises:
        UsageError: wrong shapes or types.
    """
    check_float_map("logits", logits, "B, h, w", logits)
    check_label_map(labels, logits)
    require(temperature > 0, f"temperature must be positive, got {temperature}")
    logits = logits.to(compute_dtype(logits.dtype))
    size = (labels.shape[1], labels.shape[2])
    full = functional.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    instances = Instances(labels)
    chosen = instances.present if points is None else instances.present & instances.holding(points, batch_index)
    mass = full.relu()
    gain = logits.relu().sum((1, 2)) / (mass.sum((1, 2)) + 1e-10)
    cell_area = labels[0].numel() / logits[0].numel()
    off = labels == 0

    def deviation(values: Tensor) -> Tensor:
        """Mean over images of the mean over chosen instances of ``|sum of values - 1|``."""
        return _mean_where((instances.sum(values) - 1).abs(), chosen)

    return MaskConstraint(
        background=_mean_where(mass.flatten(1), off.flatten(1)),
        unit_mass=deviation(mass * gain.detach()[:, None, None]),
        single_peak=deviation((full / temperature).sigmoid() / cell_area),
        single_peak_hard=deviation((full.detach() > 0).to(full.dtype)),
    )


def _mean_where(values: Tensor, where: Tensor) -> Tensor:
    """``(B, M)`` -> scalar: the mean over images of the mean over the entries chosen by ``where``, 0 where none is."""
    return ((values * where).sum(1) / where.sum(1).clamp(min=1)).mean()
