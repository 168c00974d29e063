from itertools import product

import numpy as np
import pytest

from crowdseg.metrics.resampling import Interval, Statistic, bootstrap, compare


def mean_of(values) -> Statistic:
    return Statistic(np.array(values, float), np.ones(len(values)))


def test_a_statistic_is_a_share_or_its_root():
    statistic = Statistic(np.array([3.0, 9, 0]), np.array([1.0, 2, 0]))
    assert statistic.value == 4
    assert Statistic(statistic.parts, statistic.wholes, root=True).value == 2
    assert Statistic(np.zeros(2), np.zeros(2)).value is None
    weights = np.array([[1.0, 1, 1], [3, 0, 0], [0, 0, 3]])
    assert statistic.weighted(weights) == pytest.approx([4, 3, np.nan], nan_ok=True)


def test_intervals_are_percentiles_over_draws_of_images():
    random = np.random.default_rng(3)
    errors, sizes = random.exponential(10, 80), random.integers(1, 9, 80).astype(float)
    statistics = {"mean": mean_of(errors), "share": Statistic(errors, sizes)}
    found = bootstrap(statistics, resamples=4000, seed=1)
    draws = random.integers(0, 80, (20_000, 80))
    for name, values in {
        "mean": errors[draws].mean(1),
        "share": errors[draws].sum(1) / sizes[draws].sum(1),
    }.items():
        low, high = np.quantile(values, [0.025, 0.975])
        near = pytest.approx((low, high), abs=0.05 * (high - low))
        assert (found[name].low, found[name].high) == near
    assert bootstrap(statistics, 500, seed=1) == bootstrap(statistics, 500, seed=1)
    assert bootstrap(statistics, 500, seed=1) != bootstrap(statistics, 500, seed=2)


def test_intervals_that_are_not_defined():
    one, nothing = Statistic(np.array([3.0, 0]), np.array([1.0, 0])), Statistic(np.zeros(2), np.zeros(2))
    found = bootstrap({"one image": one, "nothing": nothing, "same": mean_of([4, 4])}, 200)
    assert found == {"one image": None, "nothing": None, "same": Interval(4, 4)}
    assert bootstrap({}) == {}


def test_all_swaps_of_few_images_are_tried():
    first, second = np.array([5.0, 7, 1, 9, 4]), np.array([4.0, 2, 3, 5, 4])
    means = [
        np.where(swap, first, second).mean() - np.where(swap, second, first).mean()
        for swap in product([False, True], repeat=5)
    ]
    expected = np.mean(np.abs(means) >= abs(second.mean() - first.mean()) - 1e-12)
    found = compare({"mae": mean_of(first)}, {"mae": mean_of(second)})["mae"]
    assert (found.first, found.second, found.difference) == (5.2, 3.6, pytest.approx(-1.6))
    assert found.p == expected and 0 < found.p < 1
    assert found.interval.low < -1.6 < found.interval.high


def test_many_images_agree_with_the_normal_law():
    """For a shift of two standard errors p is about 0.0455, and the interval about the shift -+ 1.96 errors."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 1, 400)
    noise = (noise - noise.mean()) / noise.std()
    found = compare({"x": mean_of(np.zeros(400))}, {"x": mean_of(noise + 0.1)}, resamples=20_000)["x"]
    assert found.difference == pytest.approx(0.1)
    assert found.p == pytest.approx(0.0455, abs=0.008)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.1 - 0.098, 0.1 + 0.098), abs=0.006)


def test_equal_systems_and_single_images():
    same = {"x": mean_of([1.0, 2, 3])}
    assert compare(same, same)["x"].p == 1 and compare(same, same)["x"].interval == Interval(0, 0)
    one = compare({"x": mean_of([1.0])}, {"x": mean_of([5.0])})["x"]
    assert one.difference == 4 and one.p == 1 and one.interval is None


def test_only_what_both_have_is_compared():
    nothing = Statistic(np.zeros(3), np.zeros(3))
    found = compare(
        {"x": mean_of([1.0, 2, 3]), "only A": mean_of([1.0] * 3)}, {"x": nothing, "only B": mean_of([1.0] * 3)}
    )
    assert list(found) == ["x"]
    assert found["x"].first == 2
    assert found["x"].second is found["x"].difference is found["x"].interval is found["x"].p is None


def test_without_resampling_there_is_no_p():
    found = compare({"x": mean_of([1.0, 2, 3])}, {"x": mean_of([3.0, 2, 1])}, resamples=0)["x"]
    assert found.difference == 0 and found.p is found.interval is None


@pytest.mark.parametrize("number", [5, 10])
def test_p_of_few_images_does_not_hang_on_resamples(number):
    first, second = ({"x": mean_of(np.random.default_rng(seed).random(number))} for seed in (1, 2))
    few, many = (compare(first, second, resamples)["x"].p for resamples in (1, 5000))
    assert few == many and (few * 2**number).is_integer()
