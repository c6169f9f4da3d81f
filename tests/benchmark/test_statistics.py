"""What counts, against definitions, and intervals that hold what they should."""

import math

import numpy as np
import pytest

from ads_gym.benchmark.statistics import (
    Interval,
    arrival,
    compare,
    hypervolume,
    interquartile_mean,
    interval,
    pair_tests,
    probability_of_improvement,
    scores,
    spent_until,
)
from ads_gym.errors import InvalidValue


def test_scores_are_shares_of_the_way_from_random_to_the_best_known():
    found = scores(np.array([[0.5, 0.9], [0.2, 0.6]]), np.array([0.5, 0.2]), np.array([0.9, 0.6]))
    assert found.tolist() == [[0, 1], [0, 1]]
    with pytest.raises(InvalidValue, match="no better than random"):
        scores(np.ones((1, 2)), np.ones(1), np.ones(1))


def test_the_interquartile_mean_is_of_the_middle_half():
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == np.mean([2, 3, 4, 5])
    assert interquartile_mean(np.array([[1.0, 5.0, 3.0], [0.0, 0.0, 9.0]])).tolist() == [3.0, 3.0]


def test_an_interval_holds_its_value_and_widens_with_spread_between_supernets():
    rng = np.random.default_rng(0)
    between = rng.normal(size=(10, 1)) + np.zeros((10, 2))  # seeds tell nothing more
    within = rng.normal(size=(10, 2))
    wide, narrow = interval(between), interval(within)
    assert wide.low < wide.value < wide.high and wide.high - wide.low > narrow.high - narrow.low
    assert interval(between, seed=0) == wide and interval(np.full((10, 2), 0.3)) == pytest.approx(
        Interval(0.3, 0.3, 0.3)
    )
    assert interval(within.reshape(1, -1)).low < interval(within.reshape(1, -1)).high  # one supernet: of seeds


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 9), (5, 2)])
def test_too_few_supernets_or_seeds_have_no_interval(shape):
    table = np.random.default_rng(0).normal(size=shape)
    with pytest.raises(InvalidValue, match="use 6 supernets or more, or one with 6 seeds"):
        interval(table)
    with pytest.raises(InvalidValue, match="no interval can be told"):
        compare({"a": table, "b": table + 1})


def coverage(supernets, seeds, trials=400, between=1.0):
    """How often an interval of 95 % holds the mean that supernets and seeds are drawn around."""
    rng, held = np.random.default_rng(1), 0
    for trial in range(trials):
        table = between * rng.normal(size=(supernets, 1)) + rng.normal(size=(supernets, seeds))
        found = interval(table, seed=trial, resamples=1_000)
        held += found.low <= 0 <= found.high
    return held / trials


@pytest.mark.slow
def test_intervals_hold_what_they_say(monkeypatch):
    """And those of three supernets or three seeds do not, which is why they are refused."""
    assert coverage(10, 2) > 0.91 and coverage(6, 2) > 0.91 and coverage(1, 6, between=0) > 0.88
    monkeypatch.setattr("ads_gym.benchmark.statistics.FEWEST", 1)
    assert coverage(3, 2) < 0.88 and coverage(1, 3, between=0) < 0.85


def test_who_never_arrives_is_not_left_out():
    objectives, spent = np.array([0.1, 0.5, 0.99, 0.2]), np.array([6, 7, 8, 9])
    assert spent_until(objectives, spent, 0.5) == 7 and spent_until(objectives, spent, 1.0) == math.inf
    assert np.median([7, 8, math.inf, math.inf, math.inf]) == math.inf
    assert arrival(0.2, 0.7) == pytest.approx(0.695)


def test_the_probability_of_improvement_counts_ties_half():
    one, other = np.array([[3.0, 1.0]]), np.array([[2.0, 1.0]])
    assert probability_of_improvement(one, other) == (1 + 1 + 0 + 0.5) / 4
    assert probability_of_improvement(one, one) == 0.5


def test_one_pair_is_a_test_of_signs():
    assert pair_tests(np.ones((6, 1))).tolist() == [2 / 64]
    assert pair_tests(np.array([[1.0], [-1.0]])).tolist() == [1] and pair_tests(np.zeros((4, 1))).tolist() == [1]
    assert pair_tests(np.ones((20, 1))) < 0.001 < pair_tests(np.random.default_rng(0).normal(size=(20, 1)))


def test_false_alarms_among_all_pairs_are_as_rare_as_they_should_be():
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(300):
        agents = rng.normal(size=(8, 6)) * np.linspace(0.2, 2, 6)
        ones, others = np.triu_indices(6, 1)
        alarms += pair_tests(agents[:, ones] - agents[:, others]).min() <= 0.05
    assert 0.01 < alarms / 300 < 0.08


def test_many_agents_are_told_apart_where_they_differ():
    """With Holm's correction, ten supernets and fifteen agents would be ties whatever they did."""
    rng = np.random.default_rng(0)
    tables = {str(number): number + rng.normal(size=(10, 2)) * 0.1 for number in range(15)}
    assert not any(each.is_tie for each in compare(tables))


def test_agents_are_told_apart_or_tied():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(10, 2)) * 0.1
    found = compare({"a": base + 1, "b": base, "c": base + rng.normal(size=(10, 2)) * 0.1})
    by_pair = {(each.one, each.other): each for each in found}
    assert not by_pair["a", "b"].is_tie and by_pair["a", "b"].probability > 0.99
    assert by_pair["a", "b"].difference == pytest.approx(1)
    assert by_pair["b", "c"].is_tie and by_pair["b", "c"].p_value <= 1 and compare({"a": base}) == []


def test_the_hypervolume_is_the_area_of_a_front():
    costs, values = np.array([0.5, 0.2, 0.6, 1.2]), np.array([0.9, 0.6, 0.8, 1.0])
    assert hypervolume(costs, values) == pytest.approx(0.8 * 0.6 + 0.5 * 0.3)
    assert hypervolume(np.array([]), np.array([])) == 0
    grid = (np.arange(1000) + 0.5) / 1000
    points = np.random.default_rng(0).random((30, 2))
    covered = (points[:, None, None, 0] <= grid[:, None]) & (points[:, None, None, 1] >= grid)
    assert hypervolume(*points.T) == pytest.approx(covered.any(axis=0).mean(), abs=2e-3)
