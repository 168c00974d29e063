"""The mask-constraint terms against loops over images and instances."""

import pytest
import torch
from torch.nn.functional import interpolate

from crowdseg.errors import UsageError
from crowdseg.losses import mask_constraint_loss


@pytest.fixture
def batch():
    """Three images: some instances, none at all, one that fills the image."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, generator=rng, dtype=torch.float64)
    labels = torch.zeros(3, 16, 20, dtype=torch.int32)
    labels[0, 1:6, 2:9], labels[0, 8:15, 3:6], labels[0, 8:12, 12:19] = 3, 1, 70
    labels[2] = 5
    return logits, labels


def loop(logits, labels, chosen=None, temperature=1.0):
    terms = []
    for image, (z, label) in enumerate(zip(logits, labels, strict=True)):
        full = interpolate(z[None, None], label.shape, mode="bilinear", align_corners=False)[0, 0]
        gain = (z.relu().sum() / (full.relu().sum() + 1e-10)).item()
        ids = [i for i in label.unique().tolist() if i > 0 and (chosen is None or i in chosen[image])]
        maps = [full.relu() * gain, (full / temperature).sigmoid() / 16, (full > 0).to(z)]
        deviations = [[(values[label == i].sum() - 1).abs() for i in ids] for values in maps]
        off = full.relu()[label == 0]
        terms.append([off.mean() if len(off) else 0.0, *(sum(d) / max(1, len(d)) for d in deviations)])
    return torch.tensor(terms, dtype=logits.dtype).mean(0)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_equals_the_loop(batch, temperature):
    result = mask_constraint_loss(*batch, temperature=temperature)
    torch.testing.assert_close(torch.stack(result), loop(*batch, temperature=temperature))


def test_only_instances_with_a_confident_point_count(batch):
    points = torch.tensor([[4.4, 9.6], [15.0, 9.0], [0.0, 0.0], [-1.0, 7.0]])
    result = mask_constraint_loss(*batch, points, torch.tensor([0, 0, 0, 2]))
    torch.testing.assert_close(torch.stack(result), loop(*batch, chosen=[{1, 70}, set(), {5}]))
    nobody = mask_constraint_loss(*batch, points[:0], torch.zeros(0, dtype=torch.int64))
    assert nobody.unit_mass == nobody.single_peak == nobody.single_peak_hard == 0
    assert nobody.background == result.background > 0


@pytest.mark.parametrize("term", ["background", "unit_mass", "single_peak"])
def test_gradcheck_with_a_constant_gain(batch, term):
    logits, labels = batch
    full = interpolate(logits[:, None], (16, 20), mode="bilinear", align_corners=False).relu()
    gain = logits.relu().sum((1, 2)) / (full.sum((1, 2, 3)) + 1e-10)
    (grad,) = torch.autograd.grad(getattr(mask_constraint_loss(logits.requires_grad_(), labels), term), logits)

    def constant_gain(z):
        u = interpolate(z[:, None], (16, 20), mode="bilinear", align_corners=False)[:, 0]
        values = {"background": u.relu(), "unit_mass": u.relu() * gain[:, None, None], "single_peak": u.sigmoid() / 16}
        if term == "background":
            return (values[term][0][labels[0] == 0].mean() + values[term][1].mean()) / 3
        sums = [[values[term][0][labels[0] == i].sum() for i in (3, 1, 70)], [values[term][2].sum()]]
        return sum(sum((s - 1).abs() for s in group) / len(group) for group in sums) / 3

    (expected,) = torch.autograd.grad(constant_gain(logits), logits)
    torch.testing.assert_close(grad, expected)
    assert grad.abs().sum() > 0


def test_hard_count_is_for_the_log_only(batch):
    result = mask_constraint_loss(batch[0].requires_grad_(), batch[1])
    assert not result.single_peak_hard.requires_grad
    assert result.single_peak.requires_grad


def test_one_peak_of_logit_one_inside_a_mask_is_free():
    logits = torch.full((1, 4, 4), -1.0)
    logits[0, 1, 2] = 1.0
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[0, :8, 6:14] = 1
    result = mask_constraint_loss(logits, labels)
    assert result.unit_mass < 1e-5 and result.background == 0


def test_refuses_labels_of_another_batch(batch):
    with pytest.raises(UsageError, match="labels holds 2 images, logits 3"):
        mask_constraint_loss(batch[0], batch[1][:2])
