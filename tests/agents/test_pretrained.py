"""A policy that has seen other networks: what it is trained on, what it learns, and that it plays on any shape."""

from itertools import combinations

import gymnasium as gym
import numpy as np
import pytest
import torch

from ads_gym.agents.pretrained.agent import Pretrained
from ads_gym.agents.pretrained.groups import Game, advantages
from ads_gym.agents.pretrained.network import NETWORKS, Kind, play, states
from ads_gym.agents.pretrained.rows import Inputs, Rows, known_ranks, rows_of
from ads_gym.agents.pretrained.sampling import Sampler
from ads_gym.agents.pretrained.saving import PretrainedRecord, write_pretrained
from ads_gym.agents.pretrained.training import TrainingSettings, judge, train
from ads_gym.agents.pretrained.validation import random_mask, scores
from ads_gym.errors import InvalidValue, NotFound
from ads_gym.evaluators.base import Weights
from ads_gym.evaluators.table import every_mask
from ads_gym.nets.features import Feature
from ads_gym.problem import make_problem
from ads_gym.tasks import Task

RESIDUAL = list(Feature).index(Feature.RESIDUAL)


def planted_game(size, seed):
    """Connections of which the upper half by residual is good, the lower one bad; all cost the same."""
    rng = np.random.default_rng(seed)
    found = np.stack([rng.permutation(size) / (size - 1) for _ in Feature], axis=1).astype(np.float32)
    good = np.where(found[:, RESIDUAL] > 0.5, 1.0, -1.0)
    return Game(f"planted-{seed}", found, np.full(size, 1 / size), every_mask(size) @ good / size)


def drawn(kind, seed=0):
    """A policy of random weights, its readout included."""
    network, generator = NETWORKS[kind](seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return network


def write(path, kind=Kind.RECURRENT, **settings):
    network = drawn(kind)
    write_pretrained(path, PretrainedRecord(TrainingSettings(kind=kind, **settings), ("inherited",), ("one",)), network)
    return network


@pytest.mark.parametrize("best_of", [1, 2, 3, 6])
def test_an_episode_is_worth_what_it_adds_to_the_best(best_of):
    objectives = np.random.default_rng(0).random(6).round(1)  # with ties
    subsets = list(combinations(range(6), best_of))
    worth = [sum(objectives[list(each)].max() for each in subsets if i in each) / len(subsets) for i in range(6)]
    expected = (np.array(worth) - np.mean(worth)) * 6 / best_of / objectives.std()
    np.testing.assert_allclose(advantages(objectives, best_of), expected, atol=1e-12)


@pytest.mark.parametrize("kind", Kind)
def test_padding_changes_nothing_and_decisions_are_judged_as_they_were_made(kind):
    network, games = drawn(kind), [planted_game(5, 0), planted_game(9, 1)]
    alone = [game.rows(room, 0.3) for game, room in zip(games, (0.6, 1.0), strict=True)]
    both = Rows.stack(alone)
    explores = torch.tensor([False, True])
    masks = play(network, both, explores, None)
    assert not masks[0, 5:].any()
    for index, rows in enumerate(alone):
        size, single = rows.costs.shape[1], explores[index : index + 1]
        mask = play(network, rows, single, None)
        assert torch.equal(mask[0], masks[index, :size])
        numbers, is_choice = states(rows, mask)
        logits, _ = network.decide(network.encode(rows, single), numbers)
        assert torch.equal((logits > 0) & is_choice, mask)  # step by step, and all at once
    chances, entropies = judge(network, both, explores, masks)
    apart = [
        judge(network, rows, explores[i : i + 1], masks[i : i + 1, : rows.costs.shape[1]])
        for i, rows in enumerate(alone)
    ]
    torch.testing.assert_close(chances, torch.cat([each[0] for each in apart]))
    torch.testing.assert_close(entropies, torch.cat([each[1] for each in apart]))


def test_the_probabilities_of_all_masks_sum_to_one():
    network, game = drawn(Kind.RECURRENT), planted_game(6, 0)
    masks = torch.from_numpy(every_mask(6))
    fits = masks.float() @ torch.from_numpy(game.costs).float() <= 0.5 + 1e-6
    rows = game.rows(0.5, 0.1).repeat(int(fits.sum()))
    chances, _ = judge(network, rows, torch.zeros(len(rows.room), dtype=torch.bool), masks[fits])
    assert chances.exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("kind", "updates", "rate"), [(Kind.LINEAR, 120, 0.1), (Kind.RECURRENT, 60, 0.01)])
def test_it_learns_what_holds_on_other_shapes_too(kind, updates, rate):
    settings = TrainingSettings(kind=kind, updates=updates, groups=8, learning_rate=rate)
    network = train([planted_game(6 + seed % 4, seed) for seed in range(12)], settings)
    found = np.mean([scores(network, planted_game(11, 99 + seed), counts=(1, 8)) for seed in range(3)], axis=0)
    assert found[0] > 0.5 and found[1] > 0.7


def test_training_follows_its_seed():
    one, again, other = (
        train([planted_game(6, 0)], TrainingSettings(updates=2, groups=2, episodes=8, seed=seed)) for seed in (0, 0, 1)
    )
    weights = [torch.cat([each.flatten() for each in network.parameters()]) for network in (one, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_groups_are_as_large_as_what_is_best_of():
    with pytest.raises(InvalidValue, match="groups of 4, best_of 8"):
        train([planted_game(5, 0)], TrainingSettings(episodes=4))


def test_masks_come_once_and_all_of_them():
    game = planted_game(5, 0)
    sampler = Sampler(drawn(Kind.LINEAR), game.rows(1.0, 0.0), 0)
    masks = np.concatenate([sampler.ask(1), sampler.ask(20), sampler.ask(20)])
    assert len(masks) == 32 == len({mask.tobytes() for mask in masks})
    assert np.array_equal(masks[0], play(drawn(Kind.LINEAR), game.rows(1.0, 0.0), torch.zeros(1) > 0, None)[0].numpy())
    assert sampler.ask(3).shape == (0, 5)


def test_inputs():
    features = np.random.default_rng(0).random((8, len(Feature)))
    known, shape, shuffled = (known_ranks(features, inputs) for inputs in Inputs)
    assert np.array_equal(known[:, :3], shape[:, :3]) and (shape[:, 3:] == 0.5).all()
    assert np.array_equal(known[:, :3], shuffled[:, :3]) and not np.array_equal(known[:, 3:], shuffled[:, 3:])
    assert np.array_equal(np.sort(known[:, 3:], axis=0), np.sort(shuffled[:, 3:], axis=0))


def test_a_game_is_its_table():
    problem = make_problem("digits-table", weights="repaired", reward="soft", cost_weight="even")
    game = Game.of(Task.load("digits-table"), Weights.REPAIRED)
    masks = np.stack([random_mask(game.costs, 0.5, np.random.default_rng(seed)) for seed in range(20)])
    assert (masks @ game.costs <= 0.5 + 1e-6).all()
    expected = [each.objective for each in problem.score(masks)]
    np.testing.assert_allclose(game.objectives(masks, game.even), expected, atol=1e-6)
    assert game.even == pytest.approx(problem.objective.cost_weight)


@pytest.mark.parametrize("max_macs", [None, 0.6])
def test_it_plays_in_the_environment_what_it_asks_for(tmp_path, max_macs):
    network = write(tmp_path / "policy")
    settings = {"reward": "soft", "cost_weight": "even", "max_macs": max_macs}
    problem = make_problem("digits-table", **settings)
    agent = Pretrained(problem, policy=str(tmp_path / "policy"))
    first = agent.ask(1)
    assert problem.fits(first).all()
    assert np.array_equal(first, play(network, rows_of(problem), torch.zeros(1) > 0, None).numpy())
    env = gym.make("ads_gym:DenseNetSparsify-v0", task="digits-table", observation="features", **settings)
    observation, over = env.reset()[0], False
    while not over:
        action, _ = agent.predict(observation, deterministic=True)
        observation, _, over, _, info = env.step(action)
    assert np.array_equal(info["decisions"] == 1, first[0])
    assert agent.predict(np.stack([observation] * 3))[0].tolist() == [0, 0, 0]  # nothing is left to decide
    with pytest.raises(InvalidValue, match="observation 'features'"):
        agent.predict(np.zeros((3, 16, 4)))


def test_it_plays_a_network_that_is_larger_than_any_table(tmp_path):
    write(tmp_path / "policy", Kind.LINEAR)
    problem = make_problem("digits", max_macs=0.7)
    one, again, other = (Pretrained(problem, policy=str(tmp_path / "policy"), seed=seed).ask(8) for seed in (0, 0, 1))
    assert one.shape == (8, 45) and problem.fits(one).all()
    assert np.array_equal(one, again) and np.array_equal(one[0], other[0]) and not np.array_equal(one, other)


def test_it_goes_on_learning_if_it_is_asked_to(tmp_path):
    write(tmp_path / "policy", Kind.LINEAR)
    problem = make_problem("digits-table", reward="soft", cost_weight="even")
    rows, means = rows_of(problem).repeat(256), {}
    for learn in (False, True):
        agent = Pretrained(problem, policy=str(tmp_path / "policy"), learn=learn)
        for _ in range(16):
            masks = agent.ask(8)
            agent.tell(masks, problem.score(masks))
        drawn_now = play(agent.network, rows, torch.ones(256) > 0, torch.Generator().manual_seed(0)).numpy()
        means[learn] = np.mean([each.objective for each in problem.score(drawn_now)])
    assert means[True] > means[False] + 0.01, means


def test_what_it_cannot_play(tmp_path):
    write(tmp_path / "policy")
    with pytest.raises(InvalidValue, match="trained network"):
        Pretrained(make_problem("planted-20"), policy=str(tmp_path / "policy"))
    with pytest.raises(NotFound, match="nothing"):
        Pretrained(make_problem("digits-table"), policy=str(tmp_path / "nothing"))
