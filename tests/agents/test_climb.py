"""Climbing by one-flip moves."""

import gymnasium as gym
import numpy as np
import pytest

import ads_gym  # noqa: F401
from ads_gym.agents.climb import Climb
from ads_gym.agents.game import Game


def climb(game, score, base, wanted, most=4, seen=None):
    """Climbs to the end; the climb, and all that it asked for in order."""
    seen = {base.tobytes(): score(base)} if seen is None else seen
    climber, asked = Climb(game, base, score(base), seen), []
    while not climber.over:
        masks = climber.ask(wanted, most)
        scores = [score(mask) for mask in masks]
        seen |= {mask.tobytes(): value for mask, value in zip(masks, scores, strict=True)}
        asked += masks
        if masks:
            climber.tell(masks, scores)
    return climber, asked


def game_of(**settings):
    return Game.of(gym.make("DenseNetSparsify-v0", task="planted-20", **settings))


def even(mask):
    return np.full(len(mask), 0.5)


def test_it_ends_at_the_top_and_asks_for_nothing_twice():
    game = game_of()
    hidden = game.draw(np.random.default_rng(0))
    top, asked = climb(game, lambda mask: float((mask == hidden).mean()), game.topology.chain(), even)
    assert np.array_equal(top.base, hidden)
    assert top.score == 1
    assert len({mask.tobytes() for mask in asked}) == len(asked) < 3 * game.size


def test_the_most_disputed_bits_are_flipped_first():
    game = game_of()
    hidden = np.random.default_rng(3).random(game.size) < 0.5
    chain = game.topology.chain()
    _, asked = climb(game, lambda mask: float((mask == hidden).mean()), chain, lambda mask: np.where(hidden, 0.9, 0.1))
    first = [np.flatnonzero(mask != chain) for mask in asked[:4]]
    assert hidden.sum() >= 4
    assert all(len(bits) == 1 and hidden[bits[0]] for bits in first)


def test_flips_that_improve_are_tried_together():
    game = game_of()
    dense = game.topology.dense()
    _, asked = climb(game, lambda mask: float(mask.sum()), game.topology.chain(), even, most=20)
    assert np.array_equal(asked[20], dense)


def test_known_masks_are_not_asked_for_again_but_led_through():
    game = game_of()
    chain = game.topology.chain()

    def score(mask):
        return float(mask.sum())

    seen = {chain.tobytes(): 0.0}
    for index in range(game.size):
        mask = chain.copy()
        mask[index] = True
        seen[mask.tobytes()] = 1.0
    top, asked = climb(game, score, chain, even, seen=dict(seen))
    assert top.score == game.size
    assert not any(mask.tobytes() in seen for mask in asked)


@pytest.mark.parametrize("max_macs", [0.5, 0.7])
def test_at_the_limit_a_better_connection_takes_the_place_of_a_worse_one(max_macs):
    game = game_of(max_macs=max_macs)
    worth = np.random.default_rng(0).random(game.size)

    def score(mask):
        assert game.fits(mask)
        return float(mask @ worth)

    start = game.repair(game.topology.dense(), np.random.default_rng(1))
    top, _ = climb(game, score, start, lambda mask: worth)
    assert top.score > score(start)
    assert (top.base & ~start).any()  # at the limit, nothing comes in unless something goes
    worst = np.flatnonzero(start)[np.argmin(worth[start])]
    assert not top.base[worst]
