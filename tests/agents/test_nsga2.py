"""pymoo's NSGA-II."""

import numpy as np
import pytest
from planted_problems import optimise, planted, problem_of

from ads_gym.agents.nsga2 import NSGA2
from ads_gym.agents.random_search import RandomSearch
from ads_gym.benchmark.statistics import hypervolume


def front_of(metrics):
    """The hypervolume of what a run found."""
    return hypervolume(
        np.array([each.relative_cost for each in metrics]), np.array([each.accuracy for each in metrics])
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_a_hidden_mask_of_20_bits(seed):
    problem, counted = problem_of(planted(5, 5, seed=seed), 1_000)
    optimise(NSGA2(problem, seed=seed), problem)
    assert max(metrics.accuracy for metrics in counted.metrics) == 1


@pytest.mark.parametrize("kind", ["linear", "rugged"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_its_front_is_ahead_of_random_masks(kind, seed):
    fronts = {}
    for optimiser in (NSGA2, RandomSearch):
        problem, counted = problem_of(planted(6, 6, 6, kind=kind, seed=seed), 400)
        optimise(optimiser(problem, seed=seed), problem)
        fronts[optimiser] = front_of(counted.metrics)
        assert len(counted.metrics) == 400
    assert fronts[NSGA2] > fronts[RandomSearch] + 0.03


def test_the_cost_weight_does_not_change_what_it_asks_for():
    """Its objectives are reward and cost, not their difference."""
    asked = []
    for weight in (0.0, 0.5):
        problem, counted = problem_of(planted(5, 5), 100, cost_weight=weight)
        optimise(NSGA2(problem, seed=0), problem)
        asked.append([*counted.history])
    assert asked[0] == asked[1]


def test_the_front_lives_on():
    problem, counted = problem_of(planted(5, 5), 200)
    agent = optimise(NSGA2(problem, seed=0, batch_size=16, population=16), problem)
    alive = agent._algorithm.pop.get("F")
    found = np.array([(-each.accuracy, each.relative_cost) for each in counted.metrics[:192]])  # of whole generations
    for point in alive:
        assert point.tolist() in found.tolist()
    beaten = [((alive <= point).all(axis=1) & (alive < point).any(axis=1)).any() for point in found]
    equal = [(alive == point).all(axis=1).any() for point in found]
    assert (np.array(beaten) | np.array(equal)).mean() > 0.95  # all but those that a crowded front has no place for


def test_no_mask_is_asked_for_twice_and_the_search_ends():
    problem, counted = problem_of(planted(4), 100, max_macs=0.9)
    optimise(NSGA2(problem, seed=0), problem)
    fitting = sum(problem.fits(np.array([number >> bit & 1 for bit in range(6)], bool)) for number in range(64))
    assert counted.episodes == len(counted.history) and fitting - 3 <= len(counted.history) <= fitting < 64


def test_nothing_is_written_to_the_terminal(capfd):
    problem, _ = problem_of(planted(4, 4), 60)
    optimise(NSGA2(problem), problem)
    assert capfd.readouterr() == ("", "")
