"""The sam route over segment-anything's own classes; expectations come from SamPredictor.

The weights are random: places, batches and the choice are right or wrong whatever the network has learnt, and random
weights are there at once. Whether the masks are any good is for ``test_tiny_sam.py``.
"""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from segment_anything import SamPredictor, sam_model_registry

from crowdseg.errors import SetupError, UsageError
from crowdseg.masks import MaskSettings, masks_from_points
from crowdseg.masks.crowd import Crowd
from crowdseg.masks.prompts import NOTHING, OTHER, PERSON, Prompts, make_prompts
from crowdseg.masks.segmenters import make_segmenter
from crowdseg.masks.segmenters.prompted import Encoded, Grid, PromptedSegmenter
from crowdseg.masks.segmenters.sam import SamModel, bound_memory, load_sam
from crowdseg.masks.superpixels import patches
from crowdseg.masks.tiles import make_tiles

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


def whole(size):
    return slice(0, size[0]), slice(0, size[1])


def test_candidates_are_those_of_the_predictor(scene, crowd, tiny_sam):
    sam = tiny_sam()
    model, predictor = SamModel(sam), SamPredictor(sam)
    prompts = make_prompts(crowd, list(patches(scene.image, crowd)))
    encoded = model.encode(scene.image)
    predictor.set_image(scene.image)
    for boxes in (False, True):
        logits, scores = model.candidates(encoded, prompts, boxes=boxes)
        for index in (0, 7):
            box = prompts.boxes[index] if boxes else None
            _, score, low = predictor.predict(prompts.points[index], prompts.labels[index], box, return_logits=True)
            np.testing.assert_allclose(logits[index], low, atol=1e-4)
            np.testing.assert_allclose(scores[index], score, atol=1e-5)


def test_attention_head_by_head_is_the_attention(tiny_sam):
    encoder = tiny_sam().image_encoder
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name or name == "pos_embed":
            torch.nn.init.normal_(parameter)  # zero in a fresh model
    side = encoder.img_size
    image = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = encoder(image)
        bound_memory(encoder)
        assert any(type(block.attn).__name__ == "_HeadByHead" for block in encoder.blocks)
        torch.testing.assert_close(encoder(image), expected)


def test_logits_are_read_where_segment_anything_puts_them(scene, crowd, tiny_sam):
    sam = tiny_sam()
    encoded = SamModel(sam).encode(scene.image)
    wave = torch.sin(torch.arange(32.0) / 4)[:, None] * torch.cos(torch.arange(32.0) / 5)
    full = sam.postprocess_masks(wave[None, None], encoded.state.input_size, crowd.size)[0, 0].numpy()
    rows, columns = encoded.shape
    shown = wave[None, :rows, :columns].numpy()
    read = Grid(whole(crowd.size), encoded.cell).read(shown, whole(crowd.size))[0]
    assert np.abs(read - full)[4:-4, 4:-4].max() < 0.03  # in one step what segment-anything resizes in two


def test_a_tile_gives_image_coordinates():
    """A tile's candidates lie where the tile lies: those of the cropped image, shifted."""
    logits = np.random.default_rng(0).normal(size=(2, 30, 28)).astype(np.float32)
    there, at_home = Grid((slice(20, 110), slice(40, 152)), (3.0, 4.0)), Grid((slice(0, 90), slice(0, 112)), (3.0, 4.0))
    here, home = (slice(30, 60), slice(70, 90)), (slice(10, 40), slice(30, 50))
    assert np.array_equal(there.read(logits, here), at_home.read(logits, home))
    assert np.array_equal(there.area_within(logits, here), at_home.area_within(logits, home))


def test_reading_is_bilinear_and_ends_with_the_tile():
    logits = np.random.default_rng(1).normal(size=(2, 10, 12)).astype(np.float32)
    window = slice(2, 40), slice(5, 53)
    read = Grid((slice(5, 35), slice(8, 44)), (3.0, 3.0)).read(logits, window)
    y, x = ((np.arange(s.start, s.stop) - o + 0.5) / 3 - 0.5 for s, o in zip(window, (5, 8), strict=True))
    expected = np.stack(
        [map_coordinates(each, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest") for each in logits]
    )
    inside = np.zeros(expected.shape[1:], bool)
    inside[3:33, 3:39] = True
    np.testing.assert_allclose(read[:, inside], expected[:, inside], atol=1e-5)
    assert np.isneginf(read[:, ~inside]).all()


def test_area_within_a_window_counts_cells_by_their_centre():
    logits = np.ones((1, 10, 12), np.float32)
    grid = Grid((slice(100, 130), slice(200, 236)), (3.0, 3.0))  # centres at 101, 104, ... and 201, 204, ...
    for rows, number in (((0, 300), 10), ((101, 105), 2), ((102, 104), 0), ((127, 129), 1), ((0, 90), 0)):
        assert grid.area_within(logits, (slice(*rows), slice(0, 300))) == [12 * number]


class Answers:
    """A network that knows its answers: full-resolution boolean masks, the same for everybody."""

    side, device = 1024, torch.device("cpu")

    def __init__(self, masks, scores):
        self.logits = torch.from_numpy(np.where(masks, 4.0, -4.0).astype(np.float32))
        self.scores = torch.tensor(scores)

    def encode(self, image):
        return Encoded(None, (1.0, 1.0), image.shape[:2])

    def candidates(self, encoded, prompts, *, boxes):
        number = len(prompts.points)
        return self.logits.expand(number, *self.logits.shape), self.scores.expand(number, len(self.scores))


def choose(scene, crowd, masks, scores):
    """What becomes of these candidates for the first person."""
    claims = PromptedSegmenter(Answers(np.stack(masks), scores)).claims(scene.image, crowd)
    return next(claim for claim in claims if claim.index == 0)


def test_the_choice(scene, crowd):
    rows, columns = np.mgrid[:120, :160]
    x, y = crowd.points[0]
    distance = np.hypot(columns - x, rows - y) / crowd.radii[0]
    small, large, elsewhere = distance < 0.4, distance < 1.6, np.hypot(columns - x - 40, rows - y) < 5
    everything = np.ones_like(small)
    best = choose(scene, crowd, [small, large, elsewhere, everything], [0.6, 0.7, 0.99, 1.0])
    assert best.source == "sam" and best.score == pytest.approx(0.6) and best.leakage == 0
    assert best.mask.sum() == small.sum()
    # a candidate that leaks is cut to the circle and says so
    best = choose(scene, crowd, [large, elsewhere], [0.7, 0.99])
    assert best.mask.sum() == (distance**2 <= 1 + 1e-6).sum()
    assert best.leakage == pytest.approx(1 - (distance <= 1).sum() / large.sum(), abs=0.01)
    # trusted by nobody: too much outside, not at the point, no score
    fallback = next(patches(scene.image, crowd))
    for masks, scores in (([everything, elsewhere], [1.0, 1.0]), ([small], [float("nan")])):
        best = choose(scene, crowd, masks, scores)
        assert best.source == "superpixel" and best.score is None and np.array_equal(best.mask, fallback.mask)
    # the part at the point, with its hole filled
    hole = (columns == round(x) + 3) & (rows == round(y))
    broken = (small & ~hole) | ((distance > 0.7) & (distance < 0.8))
    best = choose(scene, crowd, [broken], [0.5])
    assert best.mask.sum() == small.sum() and best.leakage == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_everybody_gets_a_mask_and_the_source_is_told(scene, tiny_sam, seed):
    segmenter = PromptedSegmenter(SamModel(tiny_sam(seed=seed)), min_containment=0.01)
    labels, records = masks_from_points(scene.image, scene.points, segmenter, SETTINGS)
    assert set(np.unique(labels)) >= set(range(1, 13))
    for record in records:
        assert (record.score is None) == (record.source != "sam")
        assert 0 <= record.leakage <= 1 and type(record.index) is int


def test_batches_do_not_change_the_masks(scene, tiny_sam):
    results = []
    for batch in (1, 3):
        segmenter = PromptedSegmenter(SamModel(tiny_sam()), min_containment=0.01, prompt_batch=batch)
        results.append(masks_from_points(scene.image, scene.points, segmenter, SETTINGS)[0])
    assert (results[0] == results[1]).mean() > 0.999


def test_tiles_give_the_masks_of_their_crops(blobs, tiny_sam):
    """Dense people are segmented in tiles; each as if its tile were the image."""
    scene = blobs(1, (240, 320), 60)
    segmenter = PromptedSegmenter(SamModel(tiny_sam()), min_containment=0.01)
    crowd = Crowd.of(scene.points, scene.labels.shape)
    tiles = make_tiles(crowd, 128)
    assert len(tiles) > 3
    claims = {claim.index: claim for claim in segmenter.claims(scene.image, crowd)}
    assert sorted(claims) == list(range(60))
    prompts = make_prompts(crowd, list(patches(scene.image, crowd)))
    predictor = SamPredictor(tiny_sam())
    tile = tiles[0]
    predictor.set_image(scene.image[tile.window])
    inside = prompts.rows(tile.people).inside(tile.window)
    learned = [index for index in tile.people.tolist() if claims[index].source == "sam"]
    assert learned
    for row, index in enumerate(tile.people.tolist()):
        if index in learned:
            found = [
                predictor.predict(inside.points[row], inside.labels[row], box) for box in (None, inside.boxes[row])
            ]
            assert claims[index].score in [pytest.approx(score, abs=1e-4) for _, each, _ in found for score in each]


def test_prompts_end_with_the_tile():
    prompts = Prompts(
        np.array([[[50.0, 40.0], [60.0, 40.0], [30.0, 40.0]]]),
        np.array([[PERSON, OTHER, OTHER]]),
        np.array([[35.0, 20.0, 58.0, 90.0]]),
    )
    inside = prompts.inside((slice(30, 70), slice(40, 60)))
    assert inside.points[0, 0].tolist() == [10, 10] and inside.labels.tolist() == [[PERSON, NOTHING, NOTHING]]
    assert inside.boxes.tolist() == [[0, 0, 18, 40]]


def test_weights_are_loaded(tmp_path, monkeypatch, tiny_sam):
    monkeypatch.setitem(sam_model_registry, "vit_b", tiny_sam)
    torch.save(tiny_sam(seed=5).state_dict(), tmp_path / "weights.pth")
    loaded = load_sam("vit_b", tmp_path / "weights.pth").model.state_dict()
    for name, value in tiny_sam(seed=5).state_dict().items():
        assert torch.equal(loaded[name].cpu(), value)


def test_weights_that_do_not_fit_are_refused(tmp_path, monkeypatch, tiny_sam):
    monkeypatch.setitem(sam_model_registry, "vit_b", tiny_sam)
    with pytest.raises(SetupError, match="needs weights"):
        make_segmenter(SETTINGS, None)
    with pytest.raises(SetupError, match=r"absent\.pth is not there: pass --sam-checkpoint with sam_vit_b_01ec64\.pth"):
        load_sam("vit_b", tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(SetupError, match=r"text\.pth does not hold"):
        load_sam("vit_b", tmp_path / "text.pth")
    torch.save(tiny_sam(width=64).state_dict(), tmp_path / "other.pth")
    with pytest.raises(SetupError, match=r"other\.pth does not hold the weights of SAM vit_b"):
        load_sam("vit_b", tmp_path / "other.pth")
    with pytest.raises(UsageError, match="vit_x"):
        load_sam("vit_x", tmp_path / "other.pth")
