from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow
from scipy.spatial import cKDTree

from crowdseg.metrics import Counting, Localization, Matches, box_sigmas, match_points
from crowdseg.metrics.localization import matched_within, partners

many_points = arrays.arrays(np.float64, st.tuples(st.integers(0, 25), st.just(2)), elements=st.integers(0, 90))
few_points = arrays.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(2)), elements=st.integers(0, 9))


def read_points(path: Path, columns: int) -> dict[str, np.ndarray]:
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    return {row[0]: np.array(row[2:], float).reshape(-1, columns)[:, :2] for row in rows}


def test_reproduces_the_reference_figures(real_data):
    """A published model on ShanghaiTech B; the figures stand in the data's README, which took them independently."""
    true = read_points(real_data / "localization_points/B_gt.txt", 5)
    predicted = read_points(real_data / "localization_points/B_pred_fidt.txt", 2)
    localization, counting = Localization(), Counting()
    for name in true:
        localization.update(predicted[name], true[name])
        counting.update(predicted[name], true[name])
    small, large = localization.compute()["4 px"], localization.compute()["8 px"]
    percent = [round(100 * value, 2) for value in (small.precision, small.recall, small.f1)]
    assert percent == [64.91, 64.61, 64.76]
    percent = [round(100 * value, 2) for value in (large.precision, large.recall, large.f1)]
    assert percent == [83.86, 83.47, 83.67]
    assert (round(counting.compute().mae, 2), round(counting.compute().rmse, 2)) == (6.56, 10.25)


def test_matching_is_maximum_where_nearest_first_fails():
    # The nearest pair (10, 9) would leave 14 without a partner.
    predicted, true = np.array([[10.0, 0], [6.0, 0]]), np.array([[9.0, 0], [14.0, 0]])
    assert match_points(predicted, true, 4.0) == Matches(2, 2, 2)


def test_the_limit_itself_counts_and_nobody_is_used_twice():
    assert match_points(np.array([[3.0, 4.0]]), np.zeros((1, 2)), 5.0).matched == 1
    assert match_points(np.array([[3.0, 4.0]]), np.zeros((1, 2)), 4.999).matched == 0
    assert match_points(np.zeros((5, 2)), np.zeros((2, 2)), 1.0) == Matches(2, 5, 2)


@given(few_points, few_points, st.integers(1, 6))
def test_agrees_with_trying_all_matchings(predicted, true, sigma):
    near = np.linalg.norm(predicted[:, None] - true[None], axis=-1) <= sigma
    near = near if near.shape[0] <= near.shape[1] else near.T
    best = max(sum(near[i, j] for i, j in enumerate(order)) for order in permutations(range(near.shape[1]), len(near)))
    assert match_points(predicted, true, float(sigma)).matched == best


def test_sigma_of_each_person():
    boxes = np.array([[0.0, 0, 6, 8], [10, 10, 30, 14]])
    sigmas = box_sigmas(boxes)
    assert sigmas["sigma_s"].tolist() == [3, 2]
    assert sigmas["sigma_l"] == pytest.approx([5, np.hypot(10, 2)])
    true = np.array([[3.0, 4.0], [20.0, 12.0]])
    found = Localization().update(true + np.array([4.5, 0]), true, sigmas)
    assert found["sigma_s"].matched == 0 and found["sigma_l"].matched == 2


def test_undefined_values_are_none():
    nobody = np.zeros((0, 2))
    matches = Localization().update(nobody, nobody)["4 px"]
    assert matches.precision is matches.recall is matches.f1 is None
    assert match_points(np.ones((3, 2)), nobody, 4.0).precision == 0
    assert match_points(np.ones((3, 2)), nobody, 4.0).recall is None
    assert match_points(nobody, np.ones((3, 2)), 4.0).f1 == 0


def test_images_are_pooled_and_forgotten():
    localization = Localization()
    localization.update(np.zeros((1, 2)), np.zeros((1, 2)))
    localization.update(np.zeros((3, 2)), np.full((1, 2), 50.0))
    assert localization.compute()["8 px"] == Matches(1, 4, 2)
    localization.reset()
    assert localization.compute() == {}


@given(many_points, many_points)
@settings(max_examples=50)
def test_sizes_within_all_distances_are_those_of_each(predicted, true):
    sizes = matched_within(predicted, true)
    assert len(sizes) == 100
    for distance in (1, 2, 3, 7, 20, 55, 99, 100):
        far = np.linalg.norm(predicted[:, None] - true[None], axis=-1) > distance
        rows, columns = linear_sum_assignment(far)
        assert sizes[distance - 1] == (~far[rows, columns]).sum()


def test_average_is_the_mean_of_the_figures_at_each_distance():
    # One partner from 3 px on, the other from 60 px on, one person too many.
    predicted, true = np.array([[3.0, 0], [100, 60], [900, 900]]), np.array([[0.0, 0], [100, 0]])
    each = [match_points(predicted, true, float(distance)) for distance in range(1, 101)]
    found = Localization().update(predicted, true)["1-100 px"]
    assert found == Matches((98 + 41) / 100, 3, 2)
    for name in ("precision", "recall", "f1"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(matches, name) for matches in each]))


def test_partners_are_those_that_are_counted():
    predicted, true = np.array([[10.0, 0], [6.0, 0], [50, 50]]), np.array([[9.0, 0], [14.0, 0], [90, 90]])
    assert partners(predicted, true, 4.0).tolist() == [1, 0, -1]
    assert partners(predicted[:0], true, 4.0).tolist() == [-1] * 3


def test_matching_of_a_crowd_that_is_found_elsewhere():
    """Thousands of people with dozens of candidates each, where scipy's own matching does not come back."""
    random = np.random.default_rng(0)
    predicted, true = random.uniform(0, 600, (3000, 2)), random.normal(300, 90, (3000, 2))
    near = cKDTree(predicted).sparse_distance_matrix(cKDTree(true), 30, output_type="coo_matrix")
    flow = csr_matrix(
        (
            np.ones(near.nnz + 6000, np.int32),
            (
                np.concatenate([near.row + 1, np.zeros(3000, int), np.arange(3001, 6001)]),
                np.concatenate([near.col + 3001, np.arange(1, 3001), np.full(3000, 6001)]),
            ),
        ),
        shape=(6002, 6002),
    )
    assert match_points(predicted, true, 30.0).matched == maximum_flow(flow, 0, 6001).flow_value


def test_half_the_diagonal_itself_counts_for_every_box():
    w, h = (sides.ravel().astype(float) for sides in np.mgrid[1:65, 1:64])
    true = np.stack([np.arange(len(w)) * 1000.0, np.zeros(len(w))], 1)
    boxes = np.concatenate([true - np.stack([w, h], 1) / 2, true + np.stack([w, h], 1) / 2], 1)
    corners = true + np.stack([w, h], 1) / 2
    assert match_points(corners, true, box_sigmas(boxes)["sigma_l"]).matched == len(w)
    assert match_points(corners, true, box_sigmas(boxes)["sigma_l"] - 1e-4).matched == 0


@pytest.mark.parametrize("distance", [1, 2, 3, 7, 50, 64, 65, 99, 100])
def test_whole_distances_of_decimal_points_count(distance):
    for tenths in range(30):
        true = np.array([[tenths / 10, 0.7]])
        for step in ([distance, 0], [0.6 * distance, 0.8 * distance]):
            assert matched_within(true + step, true).tolist() == [0] * (distance - 1) + [1] * (101 - distance)
            assert match_points(true + step, true, float(distance)).matched == 1
