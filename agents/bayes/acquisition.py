"""Masks worth scoring: what a critic thinks well of, found without paying. numpy only.

Shapes: E skip connections, k starts.
"""

from collections.abc import Callable, Container

import numpy as np
from numpy.typing import NDArray

from ads_gym.agents.base import Game
from ads_gym.topology import BoolArray

Bound = Callable[[BoolArray], NDArray[np.float64]]  # masks bool[m, E] -> [m], the higher the better worth scoring
MOST_FLIPS = 100  # from a start


def imagine(game: Game, bound: Bound, starts: BoolArray, seen: Container[bytes], rng: np.random.Generator) -> BoolArray:
    """Climbs `bound` by single flips, from each of `starts` bool[k, E] at once, over masks that are not in `seen`.

    A flip that does not fit the limit goes with others that drop connections at random until it does.

    Returns:
        The tops that were reached, bool[at most k, E], the most worth scoring first.
    """
    here, climbing = starts.copy(), np.ones(len(starts), np.bool_)
    worth = _unseen(bound(here), here, seen)
    for _ in range(MOST_FLIPS):
        near = here[climbing, None, :] ^ np.eye(game.size, dtype=np.bool_)  # [k', E, E]
        for place in np.argwhere(~game.fits(near)):
            near[tuple(place)] = game.repair(near[tuple(place)], rng)
        flat = near.reshape(-1, game.size)
        values = _unseen(bound(flat), flat, seen).reshape(near.shape[:2])
        best = values.argmax(axis=1)
        which = np.arange(len(best))
        better = values[which, best] > worth[climbing]
        moving = np.flatnonzero(climbing)[better]
        here[moving], worth[moving] = near[which, best][better], values[which, best][better]
        climbing[:] = False
        climbing[moving] = True
        if not len(moving):
            break
    tops, first = np.unique(here, axis=0, return_index=True)
    found = worth[first] > -np.inf
    return np.asarray(tops[found][np.argsort(-worth[first][found], kind="stable")])


def _unseen(values: NDArray[np.float64], masks: BoolArray, seen: Container[bytes]) -> NDArray[np.float64]:
    """`values` [m], -inf where a mask bool[m, E] is in `seen`."""
    return np.where([mask.tobytes() in seen for mask in masks], -np.inf, values)
