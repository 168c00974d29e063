"""Point-mask consistency on a scene small enough to count by hand."""

import pytest
import torch

from crowdseg.losses import point_mask_consistency


@pytest.fixture
def scene():
    """Cells of 4 px. Person 1 has a point, person 2 has cells but none above 0, person 3 covers no cell centre."""
    logits = torch.full((2, 3, 4), -2.0, dtype=torch.float64)
    logits[0, 0, 0] = 1.0  # on person 1
    logits[0, 2, 3] = 0.5  # on background
    logits[0, 1, 2] = -0.3  # the best cell of person 2
    labels = torch.zeros(2, 12, 16, dtype=torch.int32)
    labels[0, 0:4, 0:4], labels[0, 4:8, 8:16], labels[0, 8:9, 0:4] = 1, 2, 3
    return logits, labels


def test_counted_by_hand(scene):
    result = point_mask_consistency(*scene)
    assert result.disagreements == 3 / 2  # one stray point, two people without a point; the second image adds nothing
    stray, missed = torch.sigmoid(torch.tensor([0.5, -0.3], dtype=torch.float64))
    torch.testing.assert_close(result.loss, (stray + (1 - missed) + 1) / (2 + 3) / 2)


def test_pulls_the_stray_point_down_and_the_missed_person_up(scene):
    logits, labels = scene
    (grad,) = torch.autograd.grad(point_mask_consistency(logits.requires_grad_(), labels).loss, logits)
    assert grad[0, 2, 3] > 0 and grad[0, 1, 2] < 0
    assert grad.count_nonzero() == 2
    assert torch.autograd.gradcheck(lambda z: point_mask_consistency(z, labels).loss, logits)


def test_agreement_costs_nothing():
    logits = torch.tensor([[[3.0, -3.0]]])
    labels = torch.tensor([[[7, 7, 0, 0], [7, 7, 0, 0]]])
    assert point_mask_consistency(logits, labels) == (0, 0)
    assert point_mask_consistency(-logits.abs(), torch.zeros_like(labels)) == (0, 0)
