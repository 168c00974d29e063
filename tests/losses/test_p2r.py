"""The P2R loss against its formula, cell by cell."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from crowdseg import ops
from crowdseg.errors import UsageError
from crowdseg.losses import p2r_loss

STRIDE = 4


@pytest.fixture
def batch():
    """Three images, the middle one without points; the points of the others are mixed up."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 8, generator=rng, dtype=torch.float64)
    batch_index = torch.tensor([2, 0, 2, 2, 0, 2])
    points = torch.rand(6, 2, generator=rng, dtype=torch.float64) * 24
    return logits, points, batch_index


def by_cell(logits, points, batch_index, keep=None, confidence=None, **settings):
    targets, owners = ops.p2r_targets(logits, points, STRIDE, batch_index, **settings)
    total = 0.0
    for image, row, column in torch.cartesian_prod(*(torch.arange(n) for n in logits.shape)).tolist():
        own = (batch_index == image).nonzero().flatten()
        target = targets[image, row, column]
        weight = 1 + target if len(own) else torch.tensor(0.5)
        if confidence is not None and owners[image, row, column] > 0:
            weight = weight * confidence[own[owners[image, row, column] - 1]]
        if keep is not None:
            cell = keep[image, row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE]
            weight = weight * (cell.double().mean() >= 0.5)
        total = total + weight * bce(logits[image, row, column], target)
    return total / logits.numel()


def test_equals_the_formula(batch):
    torch.testing.assert_close(p2r_loss(batch[0], batch[1], STRIDE, batch[2]), by_cell(*batch))


def test_settings_reach_the_targets(batch):
    settings = {"min_radius": 2.0, "max_radius": 7.0, "point_cost": 1.0, "class_cost": 3.0}
    loss = p2r_loss(batch[0], batch[1], STRIDE, batch[2], **settings)
    torch.testing.assert_close(loss, by_cell(*batch, **settings))
    assert loss != p2r_loss(batch[0], batch[1], STRIDE, batch[2])


def test_cut_out_and_confidence(batch):
    rng = torch.Generator().manual_seed(1)
    keep = torch.rand(3, 24, 32, generator=rng) > 0.5
    confidence = torch.rand(6, generator=rng, dtype=torch.float64)
    loss = p2r_loss(batch[0], batch[1], STRIDE, batch[2], keep=keep, confidence=confidence)
    torch.testing.assert_close(loss, by_cell(*batch, keep=keep, confidence=confidence))
    share = keep.double().unflatten(2, (8, STRIDE)).unflatten(1, (6, STRIDE)).mean((2, 4))
    per_cell = p2r_loss(batch[0], batch[1], STRIDE, batch[2], keep=share, confidence=confidence)
    assert torch.equal(per_cell, loss)


def test_no_confidence_at_all_leaves_only_cells_without_owner(batch):
    logits, points, batch_index = batch
    settings = {"max_radius": 6.0, "confidence": torch.zeros(6)}
    loss = p2r_loss(logits, points, STRIDE, batch_index, **settings)
    _, owners = ops.p2r_targets(logits, points, STRIDE, batch_index, max_radius=6.0)
    weight = torch.tensor([1, 0.5, 1])[:, None, None] * (owners == 0)
    torch.testing.assert_close(loss, (weight * bce(logits, torch.zeros_like(logits), reduction="none")).mean())


def test_is_the_mean_over_images(batch):
    logits, points, batch_index = batch
    parts = [p2r_loss(logits[i : i + 1], points[batch_index == i], STRIDE) for i in range(3)]
    torch.testing.assert_close(p2r_loss(logits, points, STRIDE, batch_index), torch.stack(parts).mean())


def test_gradcheck(batch):
    logits, points, batch_index = batch
    assert torch.autograd.gradcheck(lambda z: p2r_loss(z, points, STRIDE, batch_index), logits.requires_grad_())


def test_half_precision_is_summed_in_float32(batch):
    half = batch[0].to(torch.bfloat16)
    loss = p2r_loss(half, batch[1], STRIDE, batch[2])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, p2r_loss(half.float(), batch[1], STRIDE, batch[2]))


@pytest.mark.parametrize("size", [(23, 32), (12, 16)])
def test_refuses_a_keep_map_of_another_size(batch, size):
    with pytest.raises(UsageError, match=r"keep .* does not fit logits"):
        p2r_loss(batch[0], batch[1], STRIDE, batch[2], keep=torch.ones(3, *size))
