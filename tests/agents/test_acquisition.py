"""Climbing what a critic thinks, over masks that are new and fit."""

import gymnasium as gym
import numpy as np
from agentgames import planted

from ads_gym.agents.base import Game
from ads_gym.agents.bayes.acquisition import imagine


def game(limit=None):
    return Game.of(gym.make("DenseNetSparsify-v0", evaluator=planted(5, 5), max_macs=limit))


def agreement(target):
    return lambda masks: (masks == target).mean(axis=-1)


def test_climbs_to_the_top_from_anywhere():
    rng = np.random.default_rng(0)
    target = rng.random(20) < 0.5
    starts = rng.random((6, 20)) < 0.5
    tops = imagine(game(), agreement(target), starts, set(), rng)
    np.testing.assert_array_equal(tops, target[None])  # all of them came to the same


def test_goes_by_what_was_seen_and_puts_the_most_worth_first():
    rng = np.random.default_rng(1)
    target = rng.random(20) < 0.5
    near = target ^ np.eye(20, dtype=bool)
    seen = {target.tobytes(), *(mask.tobytes() for mask in near[:15])}
    starts = np.stack([near[18] ^ near[17] ^ target, near[19], rng.random(20) < 0.5])
    worth = agreement(target)
    tops = imagine(game(), worth, starts, seen, rng)
    assert not {top.tobytes() for top in tops} & seen
    assert (np.diff(worth(tops)) <= 0).all()
    assert worth(tops[:1]) == 0.95


def test_nothing_new_within_a_flip_gives_nothing():
    rng = np.random.default_rng(2)
    start = np.zeros(20, bool)
    seen = {start.tobytes(), *(mask.tobytes() for mask in start ^ np.eye(20, dtype=bool))}
    assert imagine(game(), agreement(start), start[None], seen, rng).shape == (0, 20)


def test_keeps_within_a_limit_and_swaps_there():
    rng = np.random.default_rng(3)
    limited = game(0.6)
    worth = agreement(np.ones(20, bool))  # the more the better
    starts = np.stack([limited.repair(rng.random(20) < 0.5, rng) for _ in range(8)])
    tops = imagine(limited, worth, starts, set(), rng)
    assert limited.fits(tops).all()
    assert worth(tops[:1]) > worth(starts).max()
    for top in tops:  # at the limit, nothing more can be kept
        assert not limited.fits(top | np.eye(20, dtype=bool)[~top]).any()
