"""Agents that learn nothing: by a feature, and by published patterns."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from planted_problems import optimise, planted, problem_of

import ads_gym
from ads_gym.agents.evolution import Evolution
from ads_gym.agents.gates import Gates
from ads_gym.agents.patterns import Patterns, harmonic, nearest, nested, powers
from ads_gym.agents.rankings import Magnitude, Residual, Saliency
from ads_gym.agents.registry import Needs, find_agent
from ads_gym.errors import InvalidValue
from ads_gym.nets.features import Feature
from ads_gym.problem import make_problem
from ads_gym.topology import Scope, Topology

RANKINGS = {"residual": Residual, "magnitude": Magnitude, "saliency": Saliency, "gates": Gates}


@pytest.mark.parametrize("name", RANKINGS)
def test_it_asks_for_nested_masks_that_fit(name):
    problem = make_problem("digits", max_macs=0.6)
    assert find_agent(name).make is RANKINGS[name]
    assert find_agent(name).needs is (Needs.NETWORK if name == "gates" else Needs.FEATURES)
    agent = RANKINGS[name](problem)
    first = agent.ask(1)
    assert problem.fits(first).all()
    cost = problem.cost.connection_macs
    room = problem.room - int(first[0] @ cost)
    assert (cost[~first[0]] > room).all()  # nothing that was dropped fits any more
    others = agent.ask(1_000)
    assert problem.fits(others).all() and (others[1:] <= others[:-1]).all() and not others[-1].any()
    assert agent.ask(5).shape == (0, problem.topology.size)


def test_gates_follow_their_seed_and_cost_what_their_steps_take():
    charges = {}
    problem = replace(make_problem("digits", max_macs=0.6), charge=charges.__setitem__)
    first, again, other = (Gates(problem, seed=seed, steps=20).ask(1) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert charges == {"gates": math.ceil(3 * 20 * 64 / 1_000)}  # of 500 calibration and 500 validation images
    with pytest.raises(InvalidValue, match="planted-20 has none"):
        Gates(make_problem("planted-20"))


@pytest.mark.parametrize(
    ("agent", "options", "feature"),
    [
        (Residual, {}, Feature.RESIDUAL),
        (Magnitude, {}, Feature.MAGNITUDE),
        (Saliency, {}, Feature.SALIENCY_HALF),
        (Saliency, {"networks": "dense"}, Feature.SALIENCY_DENSE),
    ],
)
def test_the_least_of_the_feature_goes_first(agent, options, feature):
    problem = make_problem("digits")
    masks = agent(problem, **options).ask(1_000)
    values = problem.feature(feature)
    for before, after in pairwise(masks):
        (gone,) = np.flatnonzero(before & ~after)
        assert values[gone] == values[before].min()


def test_networks_that_have_no_feature():
    with pytest.raises(InvalidValue, match="networks"):
        Saliency(make_problem("digits"), networks="chain")


@pytest.mark.parametrize("name", RANKINGS)
def test_a_task_without_a_network_is_refused_before_anything_is_written(name, tmp_path):
    with pytest.raises(InvalidValue, match=r"reads (features of )?a trained network, and planted-20 has none"):
        ads_gym.search("planted-20", name, 3, run=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RANKINGS if name != "magnitude"])  # which is behind
def test_with_inherited_weights_it_is_ahead_of_random_masks(name, tmp_path):
    """At equal MACs, on digits, by loss."""
    options = {"weights": "inherited", "reward": "loss", "cost_weight": 0, "max_macs": 0.8, "progress": False}
    result = ads_gym.search("digits", name, 64, run=tmp_path / "run", **options)
    lines = {line.name: line for line in result.table}
    assert lines["best"].loss < lines["random"].loss


def by_hand(topology, keeps):
    return [keeps(dst, src) for _, dst, src in topology.connections.tolist()]


@pytest.mark.parametrize("scope", Scope)
def test_patterns_are_those_of_their_papers(scope):
    topology = Topology((7, 3), scope)
    twos, threes = powers(topology)[:2].tolist()
    assert twos == by_hand(topology, lambda dst, src: dst - src in (2, 4, 8))
    assert threes == by_hand(topology, lambda dst, src: dst - src in (3, 9))
    divides = harmonic(topology)[0].tolist()
    assert divides == by_hand(topology, lambda dst, src: any(dst - src == 2**n and dst % 2**n == 0 for n in (1, 2, 3)))
    windows = nearest(topology)
    assert windows[0].all() and not windows[-1].any() and (windows[1:] <= windows[:-1]).all()
    assert by_hand(topology, lambda dst, src: dst - src <= 3) in windows.tolist()


def test_nested_masks_lose_the_lowest_price_first():
    assert nested(np.array([2, 1, 3])).astype(int).tolist() == [[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("limit", [None, 0.6])
def test_patterns_fit_and_are_asked_for_once(limit):
    problem, counted = problem_of(planted(6, 6, 6), max_macs=limit)
    optimise(Patterns(problem), problem)
    assert counted.episodes == len(counted.history) > 40
    first = counted.masks[:5]
    assert limit is None or all(problem.fits(mask) for mask in first)
    kept = [np.flatnonzero(mask).tolist() for mask in counted.masks]
    assert [] in kept and (limit is not None or list(range(45)) in kept)


def test_children_of_evolution_are_new_and_near_their_parents():
    problem, counted = problem_of(planted(6, 6, 6), 200)
    agent = optimise(Evolution(problem, seed=0, population=16, crossover=0.0, flips=1.0), problem)
    assert counted.episodes == len(counted.history) == 200
    masks = np.stack(counted.masks)
    near = [(masks[:number] ^ masks[number]).sum(axis=1).min() for number in range(16, 200)]
    assert np.mean(near) < 2.5  # flips of a parent, where random masks are some 15 apart
    assert len(agent._alive) == 16
