"""The sam route over segment-anything's own classes, with random weights; expectations come from SamPredictor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry

from crowdseg.errors import SetupError, UsageError
from crowdseg.masks import MaskSettings, masks_from_points
from crowdseg.masks.crowd import Crowd
from crowdseg.masks.prompts import NOTHING, OTHER, PERSON, make_prompts
from crowdseg.masks.segmenters.sam import SamSegmenter, Tile, load_sam
from crowdseg.masks.superpixels import patches

SETTINGS = MaskSettings("sam", "vit_b")


@pytest.fixture
def scene(blobs):
    return blobs(0)


@pytest.fixture
def crowd(scene):
    return Crowd.of(scene.points, scene.labels.shape)


def test_prompts_are_the_point_its_neighbours_and_the_superpixel(scene, crowd):
    found = list(patches(scene.image, crowd))
    prompts = make_prompts(crowd, found)
    assert prompts.points.shape == (12, 5, 2) and (prompts.labels[:, 0] == PERSON).all()
    for index in range(12):
        distances = np.hypot(*(scene.points - scene.points[index]).T)
        near = [i for i in np.argsort(distances)[1:5] if distances[i] <= 2 * crowd.radii[index]]
        assert (prompts.labels[index] == OTHER).sum() == len(near)
        assert np.array_equal(prompts.points[index, 1 : 1 + len(near)], scene.points[near])
        assert (prompts.labels[index, 1 + len(near) :] == NOTHING).all()
        columns = np.nonzero(found[index].mask)[1]
        width = columns.max() - columns.min() + 1
        left = max(0, found[index].window[1].start + columns.min() - 0.05 * width)
        assert prompts.boxes[index, 0] == pytest.approx(left)


def test_coincident_points_are_not_negatives_of_each_other():
    crowd = Crowd.of(np.array([[10.0, 10.0], [10.0, 10.0], [12.0, 10.0]]), (30, 30))
    prompts = make_prompts(crowd, list(patches(np.zeros((30, 30, 3), np.uint8), crowd)))
    assert (prompts.labels == OTHER).sum(axis=1).tolist() == [1, 1, 2]


def test_a_lone_person_has_no_negatives(scene):
    crowd = Crowd.of(scene.points[:1], scene.labels.shape)
    assert (make_prompts(crowd, list(patches(scene.image, crowd))).labels == OTHER).sum() == 0


def test_candidates_are_those_of_the_predictor(scene, crowd, tiny_sam):
    model = tiny_sam()
    segmenter, predictor = SamSegmenter(model), SamPredictor(model)
    prompts = make_prompts(crowd, list(patches(scene.image, crowd)))
    height, width = crowd.size
    whole = (slice(0, height), slice(0, width))
    segmenter.predictor.set_image(scene.image)
    predictor.set_image(scene.image)
    grid = segmenter._grid(Tile(whole, np.arange(12)))
    logits, scores = segmenter._candidates(prompts, grid)
    for index in (0, 7):
        points, labels = prompts.points[index], prompts.labels[index]
        for first, box in ((0, None), (3, prompts.boxes[index])):
            _, score, low = predictor.predict(points, labels, box, return_logits=True)
            np.testing.assert_allclose(logits[index, first : first + 3], low, atol=1e-4)
            np.testing.assert_allclose(scores[index, first : first + 3], score, atol=1e-5)
    wave = torch.sin(torch.arange(32.0) / 4)[:, None] * torch.cos(torch.arange(32.0) / 5)
    full = model.postprocess_masks(wave[None, None], predictor.input_size, crowd.size)[0, 0].numpy()
    read = grid.read(wave[None].numpy(), whole)[0]  # in one step what segment-anything resizes in two
    assert np.abs(read - full)[4:-4, 4:-4].max() < 0.03


def test_a_tile_gives_image_coordinates(scene, crowd, tiny_sam):
    """A tile's candidates lie where the tile lies: those of the cropped image, shifted."""
    segmenter = SamSegmenter(tiny_sam())
    tile = Tile((slice(20, 110), slice(40, 150)), np.arange(1))
    segmenter.predictor.set_image(scene.image[tile.window])
    grid = segmenter._grid(tile)
    at_home = replace(grid, x0=0, y0=0)
    logits = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    here = grid.read(logits, (slice(30, 60), slice(70, 90)))
    assert np.array_equal(here, at_home.read(logits, (slice(10, 40), slice(30, 50))))
    assert np.array_equal(
        grid.area_outside(logits, (slice(30, 60), slice(70, 90)), 0.0),
        at_home.area_outside(logits, (slice(10, 40), slice(30, 50)), 0.0),
    )


def choose(crowd, index, masks, scores, segmenter, size=(120, 160)):
    """Full-resolution boolean candidates through the choice, at one cell per pixel."""
    segmenter.predictor.set_image(np.zeros((*size, 3), np.uint8))
    grid = replace(segmenter._grid(Tile((slice(0, size[0]), slice(0, size[1])), np.arange(1))), cell=1.0, size=size)
    logits = np.where(masks, 4.0, -4.0).astype(np.float32)
    return segmenter._best(crowd, index, logits, np.array(scores, np.float32), grid)


def test_the_choice(scene, crowd, tiny_sam):
    segmenter = SamSegmenter(tiny_sam())
    rows, columns = np.mgrid[:120, :160]
    x, y = crowd.points[0]
    distance = np.hypot(columns - x, rows - y) / crowd.radii[0]
    small, large, elsewhere = distance < 0.4, distance < 1.6, np.hypot(columns - x - 40, rows - y) < 5
    everything = np.ones_like(small)
    best = choose(crowd, 0, np.stack([small, large, elsewhere, everything]), [0.6, 0.7, 0.99, 1.0], segmenter)
    assert best.score == pytest.approx(0.6) and best.leakage == 0
    assert best.mask.sum() == small.sum()
    # a candidate that leaks is cut to the circle and says so
    best = choose(crowd, 0, np.stack([large, elsewhere]), [0.7, 0.99], segmenter)
    assert best.mask.sum() == (distance**2 <= 1 + 1e-6).sum()
    assert best.leakage == pytest.approx(1 - (distance <= 1).sum() / large.sum(), abs=0.01)
    # trusted by nobody: too much outside, or not at the point
    assert choose(crowd, 0, np.stack([everything, elsewhere]), [1.0, 1.0], segmenter) is None
    # the part at the point, with its hole filled
    hole = (columns == round(x) + 3) & (rows == round(y))
    broken = (small & ~hole) | ((distance > 0.7) & (distance < 0.8))
    best = choose(crowd, 0, broken[None], [0.5], segmenter)
    assert best.mask.sum() == small.sum() and best.leakage == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_everybody_gets_a_mask_and_the_source_is_told(scene, tiny_sam, seed):
    segmenter = SamSegmenter(tiny_sam(seed=seed), min_containment=0.01)
    labels, records = masks_from_points(scene.image, scene.points, segmenter, SETTINGS)
    assert set(np.unique(labels)) >= set(range(1, 13))
    for record in records:
        assert (record.score is None) == (record.source != "sam")
        assert 0 <= record.leakage <= 1 and type(record.index) is int


def test_batches_do_not_change_the_masks(scene, tiny_sam):
    results = []
    for batch in (1, 3):
        segmenter = SamSegmenter(tiny_sam(), min_containment=0.01, prompt_batch=batch)
        results.append(masks_from_points(scene.image, scene.points, segmenter, SETTINGS)[0])
    assert (results[0] == results[1]).mean() > 0.999


def test_weights_are_loaded(tmp_path, monkeypatch, tiny_sam):
    monkeypatch.setitem(sam_model_registry, "vit_b", tiny_sam)
    torch.save(tiny_sam(seed=5).state_dict(), tmp_path / "weights.pth")
    loaded = load_sam(SETTINGS, tmp_path / "weights.pth").predictor.model.state_dict()
    for name, value in tiny_sam(seed=5).state_dict().items():
        assert torch.equal(loaded[name].cpu(), value)


def test_weights_that_do_not_fit_are_refused(tmp_path, monkeypatch, tiny_sam):
    monkeypatch.setitem(sam_model_registry, "vit_b", tiny_sam)
    with pytest.raises(SetupError, match=r"sam_vit_b_01ec64\.pth"):
        load_sam(SETTINGS, None)
    with pytest.raises(SetupError, match=r"absent\.pth is not there"):
        load_sam(SETTINGS, tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(SetupError, match=r"text\.pth does not hold"):
        load_sam(SETTINGS, tmp_path / "text.pth")
    torch.save(tiny_sam(width=64).state_dict(), tmp_path / "other.pth")
    with pytest.raises(SetupError, match=r"other\.pth does not hold the weights of SAM vit_b"):
        load_sam(SETTINGS, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="vit_x"):
        load_sam(MaskSettings("sam", "vit_x"), None)
