import shutil

import numpy as np
import pytest
from PIL import Image

from crowdseg.data import load_dataset
from crowdseg.masks import MaskStore
from crowdseg.report.contact_sheet import piece, write_contact_sheets

CELL = (420, 560)


def test_a_picture_with_room_is_shown_whole_and_enlarged_to_the_cell():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:50, :50] = 200  # one quarter is light
    picture = piece(image, np.zeros((100, 100), np.int32), np.array([[20.0, 20.0], [80.0, 80.0]]))
    assert picture.shape == (420, 420, 3)
    assert picture[150, 150].min() > 190 and picture[150, 300].max() < 10 and picture[300, 150].max() < 10


def test_the_masks_lie_where_they_belong_in_the_enlarged_picture():
    labels = np.zeros((100, 100), np.int32)
    labels[20:40, 60:80] = 1
    picture = piece(np.zeros((100, 100, 3), np.uint8), labels, None)
    rows, columns = np.nonzero(picture.max(axis=2) > 20)
    assert [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1] == [84, 168, 252, 336]


def test_of_a_dense_crowd_the_part_with_the_most_people_is_shown_large_enough():
    image = np.zeros((1000, 1500, 3), np.uint8)
    image[600:900, 1000:1400] = 255
    x, y = np.meshgrid(np.arange(1040, 1360, 10.0), np.arange(640, 860, 10.0))
    crowd = np.stack([x.ravel(), y.ravel()], axis=1)
    few = np.random.default_rng(0).uniform(0, 500, (40, 2))
    picture = piece(image, np.zeros((1000, 1500), np.int32), np.concatenate([few, crowd]))
    assert picture.shape[:2] == CELL
    assert np.median(picture) == 255  # 105 x 140 px of the image, in the white part


def test_points_at_the_border_and_on_one_pixel():
    for points in ([[0.0, 0.0]] * 50, [[1499.0, 999.0]] * 50, [[0.0, 0.0], [1499.0, 999.0]]):
        picture = piece(np.zeros((1000, 1500, 3), np.uint8), np.zeros((1000, 1500), np.int32), np.array(points))
        assert max(picture.shape[0] / CELL[0], picture.shape[1] / CELL[1]) == pytest.approx(1, abs=0.01)
        assert picture.max() > 150  # a point is in the picture
    assert piece(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), np.int32), np.array([[0.0, 0.0]])).size > 0


def test_twelve_images_a_sheet_and_none_of_an_earlier_run(crowd, tmp_path):
    store, samples = MaskStore.open(crowd.masks), load_dataset(crowd.data).samples
    told = []
    paths, failures = write_contact_sheets(
        tmp_path, store, [*samples, samples[0]], lambda *position: told.append(position)
    )
    assert told == [(number, 13) for number in range(1, 14)] and failures == []
    assert [path.name for path in paths] == ["sheet-1.jpg", "sheet-2.jpg"]
    sizes = [Image.open(path).size for path in paths]
    assert sizes == [(4 * 572 + 12, 3 * 462 + 12), (572 + 12, 462 + 12)]
    write_contact_sheets(tmp_path, store, samples[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["sheet-1.jpg"]


def test_images_that_cannot_be_drawn_are_named_and_the_others_move_up(crowd, tmp_path):
    data, masks = shutil.copytree(crowd.data, tmp_path / "data"), shutil.copytree(crowd.masks, tmp_path / "masks")
    store, samples = MaskStore.open(masks), load_dataset(data).samples
    image, label_map = samples[0].image, store.label_file(samples[1])
    image.write_bytes(image.read_bytes()[:300])
    label_map.write_bytes(b"nothing")
    paths, failures = write_contact_sheets(tmp_path, store, samples[:3])
    assert [file for file, _ in failures] == [samples[0].image, samples[1].image]
    assert str(image) in failures[0][1] and str(label_map) in failures[1][1]
    assert [Image.open(path).size for path in paths] == [(572 + 12, 462 + 12)]
    assert write_contact_sheets(tmp_path, store, samples[:2])[0] == [] and not list(tmp_path.glob("sheet*"))
