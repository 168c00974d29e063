import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdseg.masks.crowd import Crowd
from crowdseg.masks.exclusion import disc, settle
from crowdseg.masks.segmenters.base import Claim, part_at

SIZE = (40, 60)
points = st.lists(st.tuples(st.floats(0, 59), st.floats(0, 39)), min_size=1, max_size=12).map(np.array)


def claim(crowd: Crowd, index: int, strength: float, source: str) -> Claim:
    """The whole circle."""
    window = crowd.window(index, crowd.radii[index])
    mask = crowd.inside(index, window)
    return Claim(index, window, mask, np.full(mask.shape, strength, np.float32), source)


def test_a_lone_point_reaches_a_quarter_of_the_short_side():
    assert Crowd.of(np.array([[5.0, 5.0]]), SIZE).radii == [10.0]


def test_circles_reach_to_the_nearest_neighbour_within_limits():
    crowd = Crowd.of(np.array([[5.0, 5.0], [5.0, 13.0], [5.5, 13.0], [59.0, 39.0]]), SIZE)
    assert crowd.radii.tolist() == [8.0, 3.0, 3.0, 20.0]


def test_the_neighbour_on_the_rim_is_inside():
    crowd = Crowd.of(np.array([[10.0, 10.0], [13.0, 14.0]]), SIZE)
    window = crowd.window(0, crowd.radii[0])
    assert crowd.inside(0, window)[14 - window[0].start, 13 - window[1].start]


@given(points)
@settings(max_examples=50, deadline=None)
def test_windows_hold_the_circles(places):
    crowd = Crowd.of(places, SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    for index, (x, y) in enumerate(crowd.points):
        window = crowd.window(index, crowd.radii[index])
        whole = (columns - x) ** 2 + (rows - y) ** 2 <= crowd.radii[index] ** 2 * (1 + 1e-6)
        assert crowd.inside(index, window).sum() == whole.sum()


@given(points)
@settings(max_examples=50, deadline=None)
def test_everybody_keeps_the_pixel_of_the_point(places):
    crowd = Crowd.of(places, SIZE)
    labels = settle([claim(crowd, index, float(index), "superpixel") for index in range(len(crowd))], crowd)
    rows, columns = crowd.pixels
    owners = labels[rows, columns]
    for index in range(len(crowd)):
        first = next(i for i in range(len(crowd)) if (rows[i], columns[i]) == (rows[index], columns[index]))
        assert owners[index] == first + 1


def test_the_stronger_claim_wins_and_the_better_source_before_it():
    crowd = Crowd.of(np.array([[20.0, 20.0], [30.0, 20.0], [25.0, 29.0]]), SIZE)
    by_strength = settle([claim(crowd, 0, 2, "superpixel"), claim(crowd, 1, 3, "superpixel")], crowd)
    assert by_strength[20, 25] == 2
    by_source = settle(
        [claim(crowd, 0, -40, "sam"), claim(crowd, 1, 40, "superpixel"), claim(crowd, 2, 90, "disc")], crowd
    )
    assert by_source[20, 25] == 1 and by_source[27, 25] == 1 and by_source[20, 35] == 2


def test_equal_claims_go_to_the_first():
    crowd = Crowd.of(np.array([[20.0, 20.0], [30.0, 20.0]]), SIZE)
    assert settle([claim(crowd, 0, 1, "sam"), claim(crowd, 1, 1, "sam")], crowd)[20, 25] == 1


def test_a_disc_has_half_the_radius():
    crowd = Crowd.of(np.array([[20.0, 20.0], [40.0, 20.0]]), SIZE)
    labels = settle([disc(crowd, 0)], crowd)
    assert (labels == 1).sum() == sum(x * x + y * y <= 100 for x in range(-10, 11) for y in range(-10, 11))


def test_part_at_takes_the_connected_part_with_its_holes():
    mask = np.zeros((9, 12), bool)
    mask[1:6, 1:6] = True
    mask[3, 3] = False
    mask[:, 9] = True
    assert part_at(mask, 2, 2).sum() == 25
    assert not part_at(mask, 7, 7).any()
    assert part_at(mask, 6, 6, reach=1).sum() == 25
