"""What is learnt from an image's first masks."""

import numpy as np

from crowdseg.masks.segmenters.foreground import learn_foreground


def noisy_squares():
    """Bright squares on dark ground under noise, and the truth."""
    truth = np.zeros((80, 120), bool)
    for x in (10, 50, 90):
        truth[30:50, x : x + 20] = True
    noise = np.random.default_rng(0).normal(0, 8, (80, 120, 3))
    return (np.where(truth[..., None], 40, 10) + noise).astype(np.float32), truth


def test_what_most_masks_agree_on_corrects_one_that_errs():
    colours, truth = noisy_squares()
    labels = np.where(truth, 1 + np.arange(120) // 40, 0).astype(np.int32)
    labels[30:50, 10:16] = 0  # the first person's mask misses a strip of it
    labels[22:30, 50:70] = 2  # the second one's holds a strip of ground
    odds = learn_foreground(colours, labels, np.ones_like(truth))
    assert odds.shape == truth.shape and odds.dtype == np.float32
    assert (odds[31:49, 11:16] > 0).mean() > 0.8
    assert (odds[22:28, 51:69] > 0).mean() < 0.1


def test_everybody_weighs_the_same():
    """One large mask without contrast, four small bright ones: these decide what people look like."""
    colours = np.full((60, 100, 3), 30, np.float32)
    labels = np.zeros((60, 100), np.int32)
    labels[10:50, 10:50] = 1
    for n, y in enumerate((5, 20, 35, 50), 2):
        labels[y : y + 5, 80:85] = n
    colours[labels > 1] = 60
    odds = learn_foreground(colours, labels, np.ones_like(labels, bool))
    assert odds[labels > 1].mean() > 0 > odds[labels == 1].mean()


def test_nothing_to_learn_from():
    colours, truth = noisy_squares()
    everywhere = np.ones_like(truth)
    assert learn_foreground(colours, np.zeros(truth.shape, np.int32), everywhere) is None
    assert learn_foreground(colours, np.ones(truth.shape, np.int32), everywhere) is None
    assert learn_foreground(colours, truth.astype(np.int32), truth) is None  # no ground near


def test_no_contrast_gives_finite_odds():
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 10:20] = 1
    odds = learn_foreground(np.zeros((40, 40, 3), np.float32), labels, np.ones_like(labels, bool))
    assert np.abs(odds).max() < 1e-3
