"""What agents know of the game, against the environment itself."""

import gymnasium as gym
import numpy as np
import pytest
from agentgames import given_bits, planted

import ads_gym  # noqa: F401
from ads_gym.agents.base import Game, play_mask

DECISIONS = ["connection", "layer", "network"]


def make(**settings):
    return gym.make("DenseNetSparsify-v0", **{"task": "planted-45", "evaluator": "planted:linear:0"} | settings)


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("observation", ["matrix", "flat"])
@pytest.mark.parametrize("scope", ["layers", "all"])
def test_a_mask_is_played_bit_by_bit_in_every_mode(decision, observation, scope):
    env = make(decision=decision, observation=observation, scope=scope, cost_weight=0.3)
    game = Game.of(env)
    for seed in range(3):
        mask = game.draw(np.random.default_rng(seed))
        played = play_mask(env, game, mask)
        assert np.array_equal(played.mask, mask)
        assert (played.given == -1).all()
        assert played.score == pytest.approx(env.unwrapped.score(env.unwrapped.evaluate(mask[None])[0]))


def test_given_bits_stay_as_they_were_given():
    env = given_bits(planted(5, 5, kind="given"), 1).envs[0]
    game = Game.of(env)
    played = [play_mask(env, game, game.topology.dense()) for _ in range(8)]
    assert all((p.given[:3] >= 0).all() and (p.given[3:] == -1).all() and p.steps == 17 for p in played)
    assert all(np.array_equal(p.mask[:3], p.given[:3] == 1) and p.mask[3:].all() for p in played)
    assert len({p.mask.tobytes() for p in played}) > 1


def test_random_masks_have_all_densities():
    game = Game.of(make())
    rng = np.random.default_rng(0)
    kept = np.array([game.draw(rng) for _ in range(2000)])
    counts = np.bincount(kept.sum(axis=1) * 9 // 46, minlength=9)
    assert counts.min() > 150  # a fair coin for each bit leaves the outer ninths empty


def test_repair_drops_no_more_than_it_must_and_no_connection_more_often_than_its_like():
    env = make(max_macs=0.6)
    game = Game.of(env)
    rng = np.random.default_rng(0)
    dense = game.topology.dense()
    repaired = np.array([game.repair(dense, rng) for _ in range(3000)])
    assert game.fits(repaired).all()
    assert (env.unwrapped.cost.relative_macs(repaired) <= 0.6).all()
    share = repaired.mean(axis=0)
    costs = np.round(game.costs, 9)
    for cost in np.unique(costs):
        assert np.ptp(share[costs == cost]) < 0.08
    kept = np.flatnonzero(repaired[0])
    assert np.array_equal(game.repair(repaired[0], rng), repaired[0])
    assert len(kept)


def test_choices_and_keep_fits_agree_with_the_action_masks():
    env = make(max_macs=0.55)
    game = Game.of(env)
    rng = np.random.default_rng(1)
    for _ in range(20):
        given = np.where(rng.random(game.size) < 0.2, rng.integers(0, 2, game.size), -1).astype(np.int8)
        given[(given == 1) & (rng.random(game.size) < 0.5)] = -1
        observation, info = env.reset(options={"decided": given})
        legal = np.zeros(game.size, bool)
        over = False
        while not over:
            decisions = game.decisions(observation)
            turn = int((decisions == -1).argmax())
            legal[turn] = info["action_mask"][1]
            assert game.keep_fits(decisions) == legal[turn]
            observation, _, over, _, info = env.step(int(rng.random() < 0.9))
        mask = game.decisions(observation) == 1
        assert np.array_equal(game.choices(given, mask), legal)
        assert np.array_equal(game.choices(given[None], mask[None])[0], legal)
    assert not legal.all()
