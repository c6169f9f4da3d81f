"""Matrix and vector show the same state, and what they show is true."""

import numpy as np
import pytest

from ads_gym.architecture import DenseNetConfig
from ads_gym.envs.episode import Decision, Episode, Rules
from ads_gym.envs.observations import FlatObserver, MatrixObserver
from ads_gym.nets.cost import CostTable
from ads_gym.problem import macs_limit
from ads_gym.topology import Scope

CONFIG = DenseNetConfig((4, 1, 5), growth=3, stem_channels=7, image_shape=(1, 12, 12))


def flat_from_matrix(rules, matrix, weight):
    """The vector of a matrix, as the environment's docstring says."""
    cost, topology = rules.cost, rules.topology
    decided = topology.decisions(matrix)
    free = np.flatnonzero(decided == -1)
    coming = free[:1] if rules.decision is Decision.CONNECTION else free
    if rules.decision is Decision.LAYER and len(free):
        coming = free[(topology.connections[free, :2] == topology.connections[free[0], :2]).all(axis=1)]
    one_hot = np.zeros(topology.size)
    one_hot[coming] = 1
    kept = decided == 1
    numbers = [
        (decided != -1).mean(),
        cost.relative_cost(kept),
        cost.relative_costs[coming].sum(),
        cost.relative_costs[free].sum(),
        rules.limit / cost.dense_macs - cost.relative_macs(kept),
        weight,
    ]
    signs = np.where(decided == -1, 0, 2 * decided.astype(float) - 1)
    return np.concatenate([signs, one_hot, numbers])


def matrix_from_flat(rules, vector):
    signs = vector[: rules.topology.size]
    return rules.topology.adjacency(np.where(signs == 0, -1, signs == 1))


@pytest.mark.parametrize("share", [None, 0.7])
@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("decision", list(Decision))
def test_each_observation_follows_from_the_other(decision, scope, share):
    cost = CostTable(CONFIG, scope)
    rules = Rules(cost, decision, macs_limit(cost, share))
    show_matrix, show_flat = MatrixObserver(rules), FlatObserver(rules)
    rng = np.random.default_rng(1)
    given = np.full(cost.topology.size, -1)
    for start in (None, given):
        given[[0, 3, 9]] = [1, 0, 1]
        episode = Episode(rules, start)
        while True:
            matrix, vector = show_matrix(episode, 0.25), show_flat(episode, 0.25)
            assert show_matrix.space.contains(matrix)
            assert show_flat.space.contains(vector)
            np.testing.assert_array_equal(matrix, cost.topology.adjacency(episode.decisions))
            np.testing.assert_array_equal(matrix, matrix_from_flat(rules, vector))
            np.testing.assert_allclose(vector, flat_from_matrix(rules, matrix, 0.25), rtol=0, atol=1e-6)
            if not episode.next_step.bits:
                break
            episode.apply(rng.integers(0, 2, rules.slots).tolist())
        assert vector[cost.topology.size : 2 * cost.topology.size].sum() == 0


def test_spaces_are_finite_and_hold_the_extremes():
    cost = CostTable(CONFIG)
    rules = Rules(cost, Decision.NETWORK)
    space = FlatObserver(rules).space
    assert np.isfinite(space.low).all()
    assert np.isfinite(space.high).all()
    for bit, weight in [(0, -100.0), (1, 100.0)]:
        episode = Episode(rules)
        episode.apply([bit] * rules.slots)
        assert space.contains(FlatObserver(rules)(episode, weight))
    assert MatrixObserver(rules).space.shape == (3, 7, 7)


@pytest.mark.parametrize("observer", [MatrixObserver, FlatObserver])
def test_observations_are_fresh(observer):
    rules = Rules(CostTable(CONFIG), Decision.CONNECTION)
    show, episode = observer(rules), Episode(rules)
    first = show(episode, 0.0)
    kept = first.copy()
    episode.apply([1])
    second = show(episode, 0.0)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, kept)
    second[...] = 0
    assert not np.array_equal(show(episode, 0.0), second)
