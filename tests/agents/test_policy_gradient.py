"""The gradients of the recurrent policy's updates."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ads_gym.agents.recurrent.policy import RecurrentPolicy, episode_batch
from ads_gym.agents.recurrent.policy_gradient import PolicyGradient, PolicyGradientConfig
from ads_gym.agents.recurrent.rollout import Episode
from ads_gym.problem import make_problem

WEIGHT = 0.5
FREE = np.full(20, -1, np.int8)


@pytest.fixture
def problem():
    return make_problem("planted-20", cost_weight=WEIGHT)


def updates_of(problem, **settings):
    policy = RecurrentPolicy(20, 8, 0.0, 0.01, seed=0)
    config = replace(PolicyGradientConfig(logit_learning_rate=0.05, n_epochs=1), **settings)
    return policy, PolicyGradient(policy, problem, config)


def batch_of(problem, reward, count=8, seed=0):
    masks = np.random.default_rng(seed).random((count, 20)) < 0.5
    costs = problem.cost.relative_costs
    return [Episode(FREE, mask, reward(mask) - WEIGHT * float(mask @ costs), 20) for mask in masks]


def keep_of(policy, problem, mask=np.zeros(20, bool)):  # noqa: B008 - not changed
    return policy(episode_batch(problem, FREE[None], mask[None]).inputs)[0][:, 0].detach().numpy()


def test_the_known_cost_has_no_noise(problem):
    """Where the reward is the same for all masks, only the cost is left to follow, and it is followed exactly."""
    policy, updates = updates_of(problem)
    updates.update(batch_of(problem, lambda mask: 0.7), [])
    expected = WEIGHT * torch.tensor(problem.cost.relative_costs, dtype=torch.float32)
    gradient = policy.logits.grad / policy.logits.grad.norm()
    assert torch.allclose(gradient, expected / expected.norm(), atol=1e-4)
    noisy, updates = updates_of(problem, exact_cost=False)
    updates.update(batch_of(problem, lambda mask: 0.7), [])
    assert not torch.allclose(noisy.logits.grad / noisy.logits.grad.norm(), expected / expected.norm(), atol=0.1)


@pytest.mark.parametrize("exact_cost", [True, False])
def test_both_ways_to_treat_cost_point_the_same_way_on_average(problem, exact_cost):
    total = torch.zeros(20)
    for seed in range(60):
        policy, updates = updates_of(problem, exact_cost=exact_cost)
        updates.update(batch_of(problem, lambda mask: float(mask[5]), count=32, seed=seed), [])
        total -= policy.logits.grad
    truth = -WEIGHT * problem.cost.relative_costs + np.eye(20)[5]
    assert np.corrcoef(total.numpy(), truth)[0, 1] > 0.97


def test_it_learns_what_pays(problem):
    policy, updates = updates_of(problem, n_epochs=4)
    hidden = np.random.default_rng(9).random(20) < 0.5
    for seed in range(150):
        updates.update(batch_of(problem, lambda mask: 3 * float((mask == hidden).mean()), seed=seed), [])
    assert np.array_equal(keep_of(policy, problem) > 0.5, hidden)


def test_it_imitates_the_best(problem):
    policy, updates = updates_of(problem, n_epochs=4)
    best = np.random.default_rng(2).random(20) < 0.5
    for seed in range(40):
        updates.update(batch_of(problem, lambda mask: 0.5, seed=seed), [best])
    assert np.array_equal(keep_of(policy, problem, best) > 0.5, best)


def test_given_decisions_teach_nothing(problem):
    policy, updates = updates_of(problem)
    given = FREE.copy()
    given[:4] = 1
    masks = np.random.default_rng(0).random((8, 20)) < 0.5
    masks[:, :4] = True
    updates.update([Episode(given, mask, float(mask[6]), 16) for mask in masks], [])
    assert (policy.logits.grad[:4] == 0).all()
    assert (policy.logits.grad[4:] != 0).all()


def test_equal_returns_move_nothing_by_chance(problem):
    policy, updates = updates_of(problem, exact_cost=False)
    masks = np.random.default_rng(0).random((8, 20)) < 0.5
    updates.update([Episode(FREE, mask, 0.25, 20) for mask in masks], [])
    assert torch.allclose(policy.logits.grad, torch.zeros(20), atol=1e-9)
