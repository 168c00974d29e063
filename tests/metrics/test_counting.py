import numpy as np
import pytest

from crowdseg.metrics import Counting
from crowdseg.metrics.counting import cell_errors

CORNERS = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])


def test_errors_of_hand_worked_counts():
    counting = Counting()
    for predicted, true in [(12.5, 10), (3, 5), (1, 0)]:
        counting.update(predicted, true)
    result = counting.compute()
    assert (result.images, result.true, result.predicted) == (3, 15, 16.5)
    assert result.mae == pytest.approx(5.5 / 3)
    assert result.rmse == pytest.approx(np.sqrt((6.25 + 4 + 1) / 3))
    assert result.bias == pytest.approx(0.5)
    # An image without people has no relative error; it is left out and the number of the others is told.
    assert result.nae == pytest.approx((0.25 + 0.4) / 2) and result.nae_images == 2
    assert result.game == (None,) * 4 and result.game_images == 0


def test_nothing_counted_is_undefined_not_zero():
    result = Counting().compute()
    assert result.mae is result.rmse is result.nae is result.bias is None
    counting = Counting()
    counting.update(0, 0)
    assert counting.compute().mae == 0 and counting.compute().nae is None


def test_game_sees_people_in_the_wrong_place():
    counting = Counting()
    counting.update(CORNERS[:2], CORNERS[2:], size=(10, 10))
    result = counting.compute()
    assert result.mae == 0 and result.game == (0, 4, 4, 4) and result.game_images == 1


def test_game_never_falls_with_the_level_and_starts_at_the_absolute_error():
    random = np.random.default_rng(0)
    predicted, true = random.uniform(-3, 103, (40, 2)), random.uniform(-3, 103, (55, 2))
    errors = [cell_errors(predicted, true, (80, 100), level) for level in range(4)]
    assert errors[0] == 15 and errors == sorted(errors)


def test_cells_meet_between_pixels():
    # Width 4: pixels 0 and 1 are left, 2 and 3 right.
    left, right = np.array([[1.4, 0.0]]), np.array([[1.5, 0.0]])
    assert cell_errors(left, np.array([[0.0, 0.0]]), (1, 4), 1) == 0
    assert cell_errors(right, np.array([[3.4, 0.0]]), (1, 4), 1) == 0
    assert cell_errors(left, right, (1, 4), 1) == 2


def test_counts_without_positions_do_not_enter_game():
    counting = Counting()
    counting.update(7.0, CORNERS, size=(10, 10))
    counting.update(CORNERS, CORNERS, size=(10, 10))
    result = counting.compute()
    assert result.game == (0, 0, 0, 0) and result.game_images == 1 and result.mae == 1.5


def test_images_are_sorted_by_their_true_count():
    counting = Counting()
    for predicted, true in [(2, 0), (90, 100), (151, 101), (480, 500), (7000, 5001)]:
        counting.update(predicted, true)
    bins = {(each.least, each.most): each for each in counting.compute().by_density}
    assert list(bins) == [(0, 0), (1, 100), (101, 500), (501, 5000), (5001, None)]
    assert [each.images for each in bins.values()] == [1, 1, 2, 0, 1]
    nobody, several, none = bins[0, 0], bins[101, 500], bins[501, 5000]
    assert (nobody.mae, nobody.bias, nobody.nae) == (2, 2, None)
    assert (several.mae, several.bias, several.true) == (35, 15, 601)
    assert several.rmse == pytest.approx(np.sqrt((50**2 + 20**2) / 2))
    assert several.nae == pytest.approx((50 / 101 + 20 / 500) / 2)
    assert none.mae is none.rmse is none.nae is none.bias is None


def test_density_bins_of_another_benchmark():
    counting = Counting(density_edges=(50, 500))
    for true in (0, 50, 51, 501):
        counting.update(true, true)
    assert [(each.least, each.most, each.images) for each in counting.compute().by_density] == [
        (0, 50, 2),
        (51, 500, 1),
        (501, None, 1),
    ]


def test_reset_forgets():
    counting = Counting()
    counting.update(CORNERS, CORNERS[:1], size=(10, 10))
    counting.reset()
    assert counting.compute() == Counting().compute()
