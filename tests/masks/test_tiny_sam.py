"""The sam route with weights that have learnt something: that its masks are good, which random weights cannot show."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks.bench_prompts import Quality, circles, make_masks, own_ious
from benchmarks.tiny_sam import (
    FILE,
    HELD_OUT,
    SEED,
    SIDE,
    batch_loss,
    build_tiny_sam,
    draw_photograph,
    load_tiny_sam,
    make_lesson,
    train,
)
from crowdseg.data.synthetic import draw_scene
from crowdseg.masks import MaskSettings, masks_from_points
from crowdseg.masks.crowd import Crowd
from crowdseg.masks.segmenters.prompted import PromptedSegmenter
from crowdseg.masks.segmenters.sam import SamModel
from crowdseg.masks.tiles import make_tiles

PEOPLE, SIZE = 90, (288, 400)


@pytest.fixture(scope="module")
def model():
    return SamModel(load_tiny_sam())


@pytest.fixture(scope="module")
def scene():
    """A crowd that the network has not seen, larger than its input and in need of tiles."""
    scene = draw_scene(np.random.default_rng(HELD_OUT + 77), SIZE, PEOPLE)
    assert len(make_tiles(Crowd.of(scene.points, SIZE), SIDE)) > 4
    return scene


@pytest.fixture(scope="module")
def masks(model, scene):
    """Label map and records of the whole route."""
    return masks_from_points(scene.image, scene.points, PromptedSegmenter(model), MaskSettings("sam"))


def test_the_file_is_small():
    assert FILE.stat().st_size < 10e6


def test_the_whole_route_beats_its_parts_and_the_circles(model, scene, masks):
    def quality(labels):
        return Quality.of(labels, scene).values()["mean IoU C"]

    whole = quality(masks[0])
    point = quality(make_masks(model, scene, frozenset()))
    assert whole > point + 10 and whole > quality(circles(scene)) + 10


def test_predicted_ious_tell_good_masks_from_bad_ones(scene, masks):
    labels, records = masks
    by_sam = np.array([record.source == "sam" for record in records])
    assert by_sam.mean() > 0.8
    true = own_ious(labels, scene.labels, PEOPLE)[by_sam]
    told = np.array([record.score for record in records if record.score is not None])
    assert spearmanr(told, true).statistic > 0.4


def test_what_was_learnt_is_more_than_chance():
    """On held-out lessons the loss of the trained network is a fraction of a random one's."""
    lessons = [make_lesson(np.random.default_rng(0), draw_photograph(HELD_OUT), load_tiny_sam())]
    losses = [batch_loss(sam, np.random.default_rng(0), lessons).item() for sam in (load_tiny_sam(), build_tiny_sam())]
    assert losses[0] < 0.1 * losses[1]


def test_training_leaves_what_it_has_learnt(tmp_path, capsys):
    sam = train(tmp_path / "weights.safetensors", steps=1, scenes=1)
    assert "step 1 of 1" in capsys.readouterr().out
    torch.manual_seed(SEED)
    untrained = build_tiny_sam().state_dict()
    written = load_tiny_sam(tmp_path / "weights.safetensors").state_dict()
    for name, value in sam.state_dict().items():
        assert torch.equal(written[name], value.half().float())
    learnt = [name for name, value in sam.named_parameters() if not torch.equal(value, untrained[name])]
    assert len(learnt) > 0.8 * len(untrained)
