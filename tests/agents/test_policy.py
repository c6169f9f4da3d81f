"""The recurrent policy, and whole episodes as its input."""

import numpy as np
import pytest
import torch
from planted_problems import planted, problem_of, single

from ads_gym.agents.recurrent.policy import PolicyInput, RecurrentPolicy, episode_batch, step_input


def problem(limit=None):
    return problem_of(planted(5, 5), max_macs=limit)[0]


def policy_of(problem, min_probability=0.02):
    policy = RecurrentPolicy(problem.topology.size, 16, 0.3, min_probability, seed=0)
    torch.nn.init.normal_(policy.readout, generator=torch.Generator().manual_seed(1))
    return policy


def play(problem, given, actions):
    """The policy's input, step by step, and the mask at the end."""
    env = single(problem)
    _, info = env.reset(options={"decided": given})
    previous, inputs, over = np.full((1, problem.topology.size), -1, np.int8), [], False
    while not over:
        decisions = info["decisions"][None]
        inputs.append(step_input(problem, previous, decisions, info["action_mask"][None, 1]))
        previous = decisions
        _, _, over, _, info = env.step(int(actions.pop()))
    return PolicyInput(*(torch.cat(parts) for parts in zip(*inputs, strict=True))), info["decisions"] == 1


@pytest.mark.parametrize("limit", [None, 0.6])
def test_an_episode_in_a_batch_is_what_was_seen_step_by_step(limit):
    game, rng = problem(limit), np.random.default_rng(0)
    given = np.full((4, 20), -1, np.int8)
    given[1, :3], given[2, 7], given[3, [4, 19]] = (1, 0, 1), 1, 0
    played = [play(game, row, list(rng.integers(0, 2, 20))) for row in given]
    batch = episode_batch(game, given, np.stack([mask for _, mask in played]))
    for column, (inputs, mask) in enumerate(played):
        length = len(inputs.connection)
        assert length == (given[column] == -1).sum()
        for name in ("new_decisions", "connection", "keep_is_legal"):
            assert torch.equal(getattr(batch.inputs, name)[:length, column], getattr(inputs, name)[:, 0]), name
        assert torch.allclose(batch.inputs.relative_cost[:length, column], inputs.relative_cost[:, 0])
        assert torch.equal(batch.kept[:length, column] == 1, torch.from_numpy(mask)[inputs.connection[:, 0]])
        assert not batch.is_choice[length:, column].any()


def test_step_by_step_and_all_at_once_give_the_same_probabilities():
    game = problem(0.6)
    policy = policy_of(game)
    inputs, _ = play(game, np.full(20, -1, np.int8), list(np.random.default_rng(0).integers(0, 2, 20)))
    whole, _ = policy(inputs)
    state, steps = policy.initial_state(1), []
    for step in range(20):
        keep, state = policy(PolicyInput(*(part[step : step + 1] for part in inputs)), state)
        steps.append(keep)
    assert torch.allclose(torch.cat(steps), whole, atol=1e-6)
    assert not inputs.keep_is_legal.all()
    assert (whole[~inputs.keep_is_legal] == 0).all()
    assert whole[inputs.keep_is_legal].min() >= 0.02
    assert whole.max() <= 0.98


def test_a_probability_depends_on_every_earlier_bit_and_on_no_later_one():
    game = problem()
    policy = policy_of(game)
    free, mask = np.full((1, 20), -1, np.int8), np.zeros((1, 20), np.bool_)
    before = policy(episode_batch(game, free, mask).inputs)[0]
    for bit in range(20):
        flipped = mask.copy()
        flipped[0, bit] = True
        moved = (policy(episode_batch(game, free, flipped).inputs)[0] - before).abs()[:, 0]
        assert (moved[: bit + 1] == 0).all()
        assert (moved[bit + 1 :] > 0).all()


def test_it_begins_at_its_logits_and_uses_no_global_random_numbers():
    game = problem()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    policy = RecurrentPolicy(20, 16, 0.0, 0.01, seed=0)
    assert torch.equal(torch.rand(3), expected)
    batch = episode_batch(game, np.full((1, 20), -1, np.int8), np.ones((1, 20), np.bool_))
    keep, _ = policy(batch.inputs)
    assert torch.allclose(keep, torch.full_like(keep, 0.5))


def test_its_weights_do_not_depend_on_torchs_defaults():
    usual = RecurrentPolicy(20, 8, 0.0, 0.01, seed=0).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        other = RecurrentPolicy(20, 8, 0.0, 0.01, seed=0).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    for name, weight in usual.items():
        assert weight.dtype == other[name].dtype == torch.float32 and torch.equal(weight, other[name]), name
    assert not torch.equal(usual["embedding"], RecurrentPolicy(20, 8, 0.0, 0.01, seed=1).state_dict()["embedding"])
