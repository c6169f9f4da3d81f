"""The learner's gradients."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

import ads_gym  # noqa: F401
from ads_gym.agents.base import Game, Played
from ads_gym.agents.recurrent.policy import RecurrentPolicy, replay
from ads_gym.agents.recurrent.policy_gradient import Learner, LearnerConfig

WEIGHT = 0.5


@pytest.fixture
def game():
    return Game.of(gym.make("DenseNetSparsify-v0", task="planted-20"))


def learner(game, **settings):
    policy = RecurrentPolicy(game.size, 8, 0.0, 0.01, seed=0)
    config = replace(LearnerConfig(free_rate=0.05, updates=1), **settings)
    return policy, Learner(policy, game, WEIGHT, config)


def batch_of(game, reward, count=8, seed=0):
    masks = np.random.default_rng(seed).random((count, game.size)) < 0.5
    free = np.full(game.size, -1, np.int8)
    return [Played(free, mask, reward(mask) - WEIGHT * float(mask @ game.costs), game.size) for mask in masks]


def keep_of(policy, game):
    steps = replay(game, np.full((1, game.size), -1, np.int8), np.zeros((1, game.size), np.bool_))
    return policy(steps.look)[0][:, 0].detach()


def test_the_known_cost_has_no_noise(game):
    """Where the reward is the same for all masks, all there is to follow is the cost, and it is followed exactly."""
    policy, learn = learner(game)
    learn.update(batch_of(game, lambda mask: 0.7), [])
    expected = WEIGHT * torch.tensor(game.costs, dtype=torch.float32)
    gradient = policy.free.grad / policy.free.grad.norm()
    assert torch.allclose(gradient, expected / expected.norm(), atol=1e-4)
    noisy, learn = learner(game, exact_cost=False)
    learn.update(batch_of(game, lambda mask: 0.7), [])
    assert not torch.allclose(noisy.free.grad / noisy.free.grad.norm(), expected / expected.norm(), atol=0.1)


@pytest.mark.parametrize("exact_cost", [True, False])
def test_both_ways_to_treat_cost_point_the_same_way_on_average(game, exact_cost):
    def reward(mask):
        return float(mask[5])

    total = torch.zeros(game.size)
    for seed in range(60):
        policy, learn = learner(game, exact_cost=exact_cost)
        learn.update(batch_of(game, reward, count=32, seed=seed), [])
        total -= policy.free.grad
    truth = -WEIGHT * game.costs + np.eye(game.size)[5]
    assert np.corrcoef(total.numpy(), truth)[0, 1] > 0.97


def test_it_learns_what_pays(game):
    policy, learn = learner(game, updates=4)
    hidden = np.random.default_rng(9).random(game.size) < 0.5
    for seed in range(150):
        learn.update(batch_of(game, lambda mask: 3 * float((mask == hidden).mean()), seed=seed), [])
    assert np.array_equal(keep_of(policy, game).numpy() > 0.5, hidden)


def test_it_imitates_the_best(game):
    policy, learn = learner(game, updates=4)
    best = np.random.default_rng(2).random(game.size) < 0.5
    for seed in range(40):
        learn.update(batch_of(game, lambda mask: 0.5, seed=seed), [best])
    steps = replay(game, np.full((1, game.size), -1, np.int8), best[None])
    assert np.array_equal(policy(steps.look)[0][:, 0].detach().numpy() > 0.5, best)


def test_bits_that_were_given_teach_nothing(game):
    policy, learn = learner(game)
    given = np.full(game.size, -1, np.int8)
    given[:4] = 1
    masks = np.random.default_rng(0).random((8, game.size)) < 0.5
    masks[:, :4] = True
    learn.update([Played(given, mask, float(mask[6]), game.size - 4) for mask in masks], [])
    assert (policy.free.grad[:4] == 0).all()
    assert (policy.free.grad[4:] != 0).all()


def test_a_batch_of_equal_returns_moves_nothing_by_chance(game):
    policy, learn = learner(game, exact_cost=False)
    free = np.full(game.size, -1, np.int8)
    masks = np.random.default_rng(0).random((8, game.size)) < 0.5
    learn.update([Played(free, mask, 0.25, game.size) for mask in masks], [])
    assert torch.allclose(policy.free.grad, torch.zeros(game.size), atol=1e-9)
