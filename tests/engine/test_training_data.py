"""Which images a run trains on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crowdseg.config import make_config
from crowdseg.engine.training_data import training_data
from crowdseg.errors import UsageError
from crowdseg.masks import prep_masks


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve images in NWPU-Crowd's layout: ten annotated training images, two without annotation, one of the test."""
    import json

    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "jsons").mkdir()
    for number in range(1, 14):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(folder / "images" / f"{number:04}.jpg")
        if number <= 10:
            points = [[10 + number, 20], [40, 15]]
            boxes = [[x - 2, y - 2, x + 2, y + 2] for x, y in points]
            content = {"img_id": f"{number:04}.jpg", "human_num": 2, "points": points, "boxes": boxes}
            (folder / "jsons" / f"{number:04}.json").write_text(json.dumps(content))
    (folder / "train.txt").write_text("".join(f"{number:04} 1 3\n" for number in range(1, 13)))
    (folder / "test.txt").write_text("0013 1 3\n")
    prep_masks(folder, folder.parent / "photograph-masks")
    return folder, folder.parent / "photograph-masks"


def test_training_images_without_annotation_serve_as_unlabelled(photographs) -> None:
    data = training_data(*photographs, make_config("demo", ratio=0.3, val_fraction=0.2))
    assert (len(data.labelled), len(data.val), len(data.unlabelled)) == (3, 2, 7)
    assert all(sample.points is not None for sample in data.labelled + data.val)
    assert sum(sample.points is None for sample in data.unlabelled) == 2
    keys = [sample.key for sample in data.labelled + data.val + data.unlabelled]
    assert len(set(keys)) == 12


def test_with_every_image_labelled_the_validation_part_is_taken_from_them(photographs) -> None:
    data = training_data(*photographs, make_config("demo", ratio=1.0, val_fraction=0.2))
    assert (len(data.labelled), len(data.val), len(data.unlabelled)) == (8, 2, 2)


def test_a_protocol_names_the_labelled_images(photographs, tmp_path) -> None:
    (tmp_path / "names.txt").write_bytes(b"0003.jpg\r\n\r\n0007")
    data = training_data(*photographs, make_config("demo", protocol=str(tmp_path / "names.txt")))
    assert [sample.image.name for sample in data.labelled] == ["0003.jpg", "0007.jpg"]


def test_labelled_images_without_masks_are_refused_by_name(photographs, tmp_path) -> None:
    import shutil

    masks = shutil.copytree(photographs[1], tmp_path / "masks")
    for file in masks.glob("records/**/*.json"):
        file.unlink()
    with pytest.raises(UsageError, match=r"has no masks of the present points.*prep-masks"):
        training_data(photographs[0], masks, make_config("demo"))
