"""The weight of unlabelled images, at the epochs the paper's schedule turns."""

import pytest
import torch

from crowdseg.losses import semi_supervised, unlabelled_weight


@pytest.mark.parametrize("epoch, weight", [(0, 0), (50, 0), (51, 0.01), (150, 1), (250, 2), (2000, 2)])
def test_stages_one_and_two(epoch, weight):
    assert unlabelled_weight(epoch) == pytest.approx(weight)


@pytest.mark.parametrize("epoch, weight", [(0, 0.1), (1, 0.11), (190, 2), (500, 2)])
def test_stage_three(epoch, weight):
    assert unlabelled_weight(epoch, warmup=0, base=0.1) == pytest.approx(weight)


def test_the_base_holds_during_the_warmup():
    assert unlabelled_weight(10, warmup=50, base=0.1) == 0.1


def test_sum_is_a_weighted_mean():
    labelled, unlabelled = torch.tensor(3.0), torch.tensor(1.0)
    assert semi_supervised(labelled, unlabelled, 0) == 3
    assert semi_supervised(labelled, unlabelled, 1) == 2
    assert semi_supervised(labelled, unlabelled, 2.0).item() == pytest.approx(5 / 3)
