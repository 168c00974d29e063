import numpy as np
import pytest

from crowdseg import rle
from crowdseg.report.overlay import draw_overlay


@pytest.fixture
def grid() -> np.ndarray:
    """10 x 10 people of 20 x 20 px side by side."""
    rows, columns = np.mgrid[:200, :200] // 20
    return (rows * 10 + columns + 1).astype(np.int32)


def colours_of(picture: np.ndarray, number: int = 10) -> np.ndarray:
    """The colour in the middle of each cell of the grid."""
    return picture[10::20, 10::20][:number, :number].astype(int)


def test_neighbours_have_colours_that_are_told_apart(grid):
    colours = colours_of(draw_overlay(np.full((200, 200, 3), 90, np.uint8), grid, min_side=1))
    for axis in (0, 1):
        step = np.abs(np.diff(colours, axis=axis)).max(axis=-1)
        assert step.min() > 20
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 12


def test_the_photograph_is_left_as_it_is_outside_masks(grid):
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    labels = np.where(grid == 45, grid, 0)
    picture = draw_overlay(image, labels, min_side=1)
    assert np.array_equal(picture[labels == 0], image[labels == 0])
    assert (picture[labels > 0] != image[labels > 0]).any(axis=-1).mean() > 0.95


def test_masks_are_outlined(grid):
    picture = draw_overlay(np.zeros((200, 200, 3), np.uint8), np.where(grid == 45, 1, 0).astype(np.int32), min_side=1)
    rows, columns = np.nonzero(grid == 45)
    middle = picture[rows[0] + 10, columns[0] + 10].astype(int)
    assert (picture[rows[0], columns[0] + 10].astype(int) - middle).max() > 80


@pytest.mark.parametrize("points", [[(50, 50)], [(50, 50), (50, 50)], [(0, 0), (199.4, 199.4)]])
def test_points_are_marked_where_they_are(points):
    picture = draw_overlay(np.full((200, 200, 3), 90, np.uint8), None, np.array(points, float), min_side=1)
    for x, y in points:
        assert (picture[round(y), round(x)] > 200).all()
    assert (picture[120, 60] == 90).all()


def test_low_scores_fade():
    points = np.array([(50.0, 50.0), (150.0, 50.0)])
    picture = draw_overlay(np.zeros((200, 200, 3), np.uint8), None, points, scores=np.array([1, 0.1], np.float32))
    zoom = picture.shape[0] // 200
    assert picture[50 * zoom + 1, 50 * zoom + 1, 0] > 200 > picture[50 * zoom + 1, 150 * zoom + 1, 0] > 60


def test_small_images_are_enlarged_by_a_whole_factor(grid):
    picture = draw_overlay(np.zeros((200, 200, 3), np.uint8), grid, np.array([(100.0, 100.0)]))
    assert picture.shape == (600, 600, 3)
    assert draw_overlay(np.zeros((700, 900, 3), np.uint8)).shape == (700, 900, 3)


def test_a_large_image_is_drawn_over_where_that_is_allowed(grid):
    image = np.full((500, 500, 3), 90, np.uint8)
    labels = np.kron(grid[:100, :100], np.ones((5, 5), np.int32))
    expected = draw_overlay(image, labels)
    assert (image == 90).all() and draw_overlay(image, labels, in_place=True) is image
    assert np.array_equal(image, expected)
    image.flags.writeable = False
    assert draw_overlay(image, labels, in_place=True) is not image


def test_nothing_to_draw():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    empty = draw_overlay(image, np.zeros((30, 40), np.int32), np.zeros((0, 2)), min_side=1)
    assert np.array_equal(empty, image)


def test_ten_thousand_points_stay_small():
    rows, columns = np.mgrid[:100, :100]
    points = np.stack([columns.ravel() * 6 + 3.0, rows.ravel() * 6 + 3.0], axis=1)
    labels = (rows.repeat(6, 0).repeat(6, 1) * 100 + columns.repeat(6, 0).repeat(6, 1) + 1).astype(np.int32)
    picture = draw_overlay(np.full((600, 600, 3), 60, np.uint8), labels, points)
    assert (picture.min(axis=-1) > 220).mean() < 0.1  # the dots leave the masks to be seen


def test_masks_one_by_one_are_drawn_as_their_label_map(grid):
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    codes = rle.from_label_map(grid, 100)
    assert np.array_equal(draw_overlay(image, codes), draw_overlay(image, grid))


def test_outlines_leave_the_inside_as_it_is(grid):
    image = np.full((200, 200, 3), 90, np.uint8)
    labels = np.where(grid == 45, 1, 0).astype(np.int32)
    picture = draw_overlay(image, labels, np.array([(90.0, 90.0)]), layers=["outlines"], min_side=1)
    changed = (picture != image).any(axis=-1)
    assert changed.sum() == 4 * 19 and not changed[labels == 0].any()


@pytest.mark.parametrize("layers", [[], ["points"], ["masks"], ["density"]])
def test_only_what_is_asked_for_is_drawn(grid, layers):
    image, points = np.full((200, 200, 3), 90, np.uint8), np.array([(20.0, 20.0), (24.0, 20.0)])
    labels = np.where(grid == 100, 1, 0).astype(np.int32)
    picture = draw_overlay(image, labels, points, layers=layers, min_side=1)
    changed = (picture != image).any(axis=-1)
    assert changed[20, 20] == (layers in (["points"], ["density"]))
    assert changed[22, 30] == (layers == ["density"]) and changed[190, 190] == (layers == ["masks"])


def heat(size: tuple[int, int], points) -> np.ndarray:
    """The heat's opacity in [0, 1]: what is left of the difference between white and black."""
    light, dark = (
        draw_overlay(
            np.full((*size, 3), value, np.uint8), None, np.array(points, float), layers=["density"], min_side=1
        )
        for value in (255, 0)
    )
    return 1 - (light.astype(float) - dark).mean(axis=-1) / 255


def test_heat_is_most_where_people_stand_closest():
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal((150, 500), 12, (200, 2)), generator.uniform(0, 599, (40, 2))])
    opacity = heat((600, 600), points.clip(0, 599))
    y, x = np.unravel_index(opacity.argmax(), opacity.shape)
    assert abs(x - 150) < 20 and abs(y - 500) < 20 and opacity.max() > 0.7 > 0.3 > np.median(opacity)
    step = np.abs(np.diff(opacity, axis=0)).max(axis=1)  # blended in strips that must not be seen
    assert step[255] <= step[240:270].mean() + 0.01


@pytest.mark.parametrize("points", [[(0, 0)], [(5, 5), (5, 5)]])
def test_heat_of_a_lone_person_and_of_two_on_one_place(points):
    opacity = heat((40, 30), points)
    x, y = points[0]
    assert opacity[y, x] == opacity.max() > 0.7 and opacity[-1, -1] < 0.05
