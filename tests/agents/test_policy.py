"""The recurrent policy, and the replay of whole episodes."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import ads_gym  # noqa: F401
from ads_gym.agents.base import Game
from ads_gym.agents.recurrent.policy import Look, RecurrentPolicy, look, replay


def game_of(**settings):
    env = gym.make("DenseNetSparsify-v0", task="planted-20", **settings)
    return env, Game.of(env)


def policy_of(game, floor=0.02):
    policy = RecurrentPolicy(game.size, 16, 0.3, floor, seed=0)
    torch.nn.init.normal_(policy.readout, generator=torch.Generator().manual_seed(1))
    return policy


def looks(env, game, given, actions):
    """What an agent sees, look by look, and the mask at the end."""
    observation, info = env.reset(options={"decided": given})
    shown, seen, over = np.full((1, game.size), -1, np.int8), [], False
    while not over:
        decisions = game.decisions(observation)[None]
        seen.append(look(game, shown, decisions, info["action_mask"][None, 1]))
        shown = decisions
        observation, _, over, _, info = env.step(int(actions.pop()))
    return Look(*(torch.cat(parts) for parts in zip(*seen, strict=True))), game.decisions(observation) == 1


@pytest.mark.parametrize("max_macs", [None, 0.6])
def test_a_replay_is_what_was_seen_while_playing(max_macs):
    env, game = game_of(max_macs=max_macs)
    rng = np.random.default_rng(0)
    given = np.full((4, game.size), -1, np.int8)
    given[1, :3], given[2, 7], given[3, [4, 19]] = (1, 0, 1), 1, 0
    played = [looks(env, game, row, list(rng.integers(0, 2, game.size))) for row in given]
    steps = replay(game, given, np.stack([mask for _, mask in played]))
    for column, (seen, mask) in enumerate(played):
        length = len(seen.turn)
        assert length == (given[column] == -1).sum()
        for name in ("news", "turn", "legal"):
            assert torch.equal(getattr(steps.look, name)[:length, column], getattr(seen, name)[:, 0]), name
        assert torch.allclose(steps.look.cost[:length, column], seen.cost[:, 0])
        assert torch.equal(steps.kept[:length, column] == 1, torch.from_numpy(mask)[seen.turn[:, 0]])
        assert not steps.open[length:, column].any()


def test_step_by_step_and_all_at_once_give_the_same_probabilities():
    env, game = game_of(max_macs=0.6)
    policy = policy_of(game)
    seen, _ = looks(env, game, np.full(game.size, -1, np.int8), list(np.random.default_rng(0).integers(0, 2, 20)))
    whole, _ = policy(seen)
    state, single = policy.blank(1), []
    for step in range(game.size):
        keep, state = policy(Look(*(part[step : step + 1] for part in seen)), state)
        single.append(keep)
    assert torch.allclose(torch.cat(single), whole, atol=1e-6)
    assert not seen.legal.all()
    assert (whole[~seen.legal] == 0).all()
    assert whole[seen.legal].min() >= 0.02
    assert whole.max() <= 0.98


def test_a_probability_depends_on_every_earlier_bit_and_on_no_later_one():
    _, game = game_of()
    policy = policy_of(game)
    free, mask = np.full((1, game.size), -1, np.int8), np.zeros((1, game.size), np.bool_)
    before = policy(replay(game, free, mask).look)[0]
    for bit in range(game.size):
        flipped = mask.copy()
        flipped[0, bit] = True
        moved = (policy(replay(game, free, flipped).look)[0] - before).abs()[:, 0]
        assert (moved[: bit + 1] == 0).all()
        assert (moved[bit + 1 :] > 0).all()


def test_it_begins_at_its_free_logits_and_leaves_the_global_generator_alone():
    _, game = game_of()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    policy = RecurrentPolicy(game.size, 16, 0.0, 0.01, seed=0)
    assert torch.equal(torch.rand(3), expected)
    keep, _ = policy(replay(game, np.full((1, game.size), -1, np.int8), np.ones((1, game.size), np.bool_)).look)
    assert torch.allclose(keep, torch.full_like(keep, 0.5))
