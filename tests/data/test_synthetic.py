from __future__ import annotations

import numpy as np
import pytest
from scipy.io import loadmat

from crowdseg import rle
from crowdseg.data import load_dataset, read_image
from crowdseg.data.figures import HEAD
from crowdseg.data.synthetic import draw_scene, write_synthetic
from crowdseg.errors import UsageError


@pytest.mark.parametrize("people", [0, 1, 2, 60, 700])
@pytest.mark.parametrize("size", [(192, 256), (97, 64)])
def test_every_point_lies_on_its_own_mask(people, size):
    scene = draw_scene(np.random.default_rng([people, *size]), size, people)
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.points.shape == (people, 2) and scene.boxes.shape == (people, 4)
    columns, rows = scene.points.round().astype(int).T
    assert scene.labels[rows, columns].tolist() == list(range(1, people + 1))
    assert scene.labels.max() == people


def test_heads_are_visible_and_people_grow_towards_the_camera():
    scene = draw_scene(np.random.default_rng(3), (384, 512), 400)
    heights = (scene.boxes[:, 3] - scene.boxes[:, 1]) / (2 * HEAD[1])
    assert (np.diff(scene.points[:, 1]) >= 0).all() and (np.diff(heights) >= -1e-9).all()
    assert heights.max() > 4 * heights.min() and heights.max() < 116
    rows, columns = np.mgrid[:384, :512]
    visible = []
    for label, ((x, y), height) in enumerate(zip(scene.points, heights, strict=True), start=1):
        head = ((columns - x) / (HEAD[0] * height)) ** 2 + ((rows - y) / (HEAD[1] * height)) ** 2 < 1
        visible += [(scene.labels[head] == label).mean()] if head.any() else []
    assert np.min(visible) > 0.3 and np.mean(visible) > 0.9


def test_crowds_hide_bodies_but_sparse_scenes_do_not():
    def visible_area(people: int) -> float:
        scene = draw_scene(np.random.default_rng(5), (384, 512), people)
        heights = (scene.boxes[:, 3] - scene.boxes[:, 1]) / (2 * HEAD[1])
        areas = np.bincount(scene.labels.ravel(), minlength=people + 1)[1:]
        return float(np.median(areas / heights**2))

    assert visible_area(1500) < 0.6 * visible_area(8)


def test_scenes_look_like_photographs_not_like_drawings():
    """Textured ground, and people who differ from it and from each other."""
    scene = draw_scene(np.random.default_rng(1), (384, 512), 60)
    grey = scene.image.astype(float).mean(axis=2)
    assert grey[scene.labels == 0].std() > 5
    means = [scene.image[scene.labels == label].mean(axis=0) for label in range(1, 61)]
    assert np.std(means, axis=0).min() > 15


def test_more_people_than_fit_are_refused():
    with pytest.raises(UsageError, match="do not fit"):
        draw_scene(np.random.default_rng(0), (64, 64), 2000)


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*.*") if "ground-truth" not in path.parts}


def test_written_sets_are_the_same_whoever_draws_them(tmp_path):
    arguments = (6, (3, 20), (64, 96))
    once = write_synthetic(tmp_path / "once", *arguments, seed=4)
    twice = write_synthetic(tmp_path / "twice", *arguments, seed=4, workers=2)
    other = write_synthetic(tmp_path / "other", *arguments, seed=5)
    assert files_of(once) == files_of(twice) != files_of(other)
    assert load_dataset(once).fingerprint() == load_dataset(twice).fingerprint() != load_dataset(other).fingerprint()


def test_written_sets_read_back(tmp_path):
    ticks: list[int] = []
    dataset = load_dataset(write_synthetic(tmp_path / "set", 10, (3, 20), (64, 96), 1, progress=ticks.append))
    assert dataset.format == "ShanghaiTech" and dataset.defects == [] and sum(ticks) == 10
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (7, 3)
    for sample in dataset.samples:
        assert 3 <= sample.count <= 20 and len(sample.masks) == sample.count and sample.size == (64, 96)
        masks = np.array([rle.to_mask(mask) for mask in sample.masks])
        assert masks.sum(axis=0).max() == 1  # exclusive
        for (x, y), mask in zip(sample.points, masks, strict=True):
            assert mask[round(y), round(x)]


def test_points_have_the_official_structure(tmp_path, real_data):
    write_synthetic(tmp_path, 1, (5, 5), (64, 96))
    ours = loadmat(tmp_path / "part_A/train_data/ground-truth/GT_IMG_1.mat")["image_info"]
    real = loadmat(real_data / "ShanghaiTech/part_A/train_data/ground-truth/GT_IMG_1.mat")["image_info"]
    for name in ("location", "number"):
        mine, theirs = ours[0, 0][name][0, 0], real[0, 0][name][0, 0]
        assert mine.dtype == theirs.dtype and mine.ndim == theirs.ndim
    assert ours[0, 0]["number"][0, 0].item() == len(ours[0, 0]["location"][0, 0]) == 5


def test_a_stopped_run_goes_on_and_can_grow(tmp_path):
    whole = write_synthetic(tmp_path / "whole", 4, (3, 9), (64, 96))
    write_synthetic(tmp_path / "parts", 2, (3, 9), (64, 96))
    (tmp_path / "parts/part_A/train_data/images/IMG_1.jpg").unlink()
    assert files_of(write_synthetic(tmp_path / "parts", 4, (3, 9), (64, 96))) == files_of(whole)


def test_other_settings_do_not_mix(tmp_path, photograph):
    write_synthetic(tmp_path / "set", 2, (3, 9), (64, 96))
    for arguments in ((2, (3, 8), (64, 96)), (2, (3, 9), (64, 64)), (1, (3, 9), (64, 96)), (2, (3, 9), (64, 96), 7)):
        with pytest.raises(UsageError, match="other settings"):
            write_synthetic(tmp_path / "set", *arguments)
    photograph(tmp_path / "own" / "part_A" / "train_data" / "images" / "IMG_1.jpg")
    with pytest.raises(UsageError, match="holds a dataset already"):
        write_synthetic(tmp_path / "own", 2, (3, 9), (64, 96))


@pytest.mark.parametrize("arguments", [(0, (1, 2), (64, 64)), (1, (3, 2), (64, 64)), (1, (1, 2), (64, 8))])
def test_impossible_requests(tmp_path, arguments):
    with pytest.raises(UsageError, match="Cannot draw"):
        write_synthetic(tmp_path / "set", *arguments)
    assert not (tmp_path / "set").exists()


def test_12_000_people(tmp_path):
    (sample,) = load_dataset(write_synthetic(tmp_path, 1, (12_000, 12_000), (384, 512))).samples
    assert sample.count == len(sample.masks) == 12_000
    assert rle.area(sample.masks).min() >= 1
    assert read_image(sample.image).shape == (384, 512, 3)
