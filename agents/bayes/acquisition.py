"""Maximise an acquisition function over masks, by climbing single flips. numpy only.

Shapes: E skip connections, k starts, m masks.
"""

from collections.abc import Callable, Container

import numpy as np
from numpy.typing import NDArray

from ads_gym.problem import Problem
from ads_gym.topology import BoolArray

Floats = NDArray[np.float64]
Acquisition = Callable[[BoolArray], Floats]  # masks bool [m, E] -> float64 [m]

MAX_FLIPS = 100  # from a start


def maximise_acquisition(
    problem: Problem, acquisition: Acquisition, starts: BoolArray, known: Container[bytes], rng: np.random.Generator
) -> BoolArray:
    """Climb from all starts at once, each by its best flip, over masks that are not known and fit the MACs limit.

    A flip that does not fit is projected: other connections are dropped with it.

    Args:
        problem: has the MACs limit.
        acquisition: what is maximised.
        starts: bool [k, E]; a known one is only passed through.
        known: masks as bytes, which are not returned.
        rng: for projections.

    Returns:
        The local maxima, bool [at most k, E], the highest first.
    """
    current, climbing = starts.copy(), np.ones(len(starts), np.bool_)
    values = _new_only(acquisition(current), current, known)
    for _ in range(MAX_FLIPS):
        neighbours = current[climbing, None, :] ^ np.eye(problem.topology.size, dtype=np.bool_)  # [k', E, E]
        for place in np.argwhere(~problem.fits(neighbours)):
            neighbours[tuple(place)] = problem.project(neighbours[tuple(place)], rng)
        flat = neighbours.reshape(-1, problem.topology.size)
        scores = _new_only(acquisition(flat), flat, known).reshape(neighbours.shape[:2])
        best = scores.argmax(axis=1)
        rows = np.arange(len(best))
        is_better = scores[rows, best] > values[climbing]
        moving = np.flatnonzero(climbing)[is_better]
        current[moving], values[moving] = neighbours[rows, best][is_better], scores[rows, best][is_better]
        climbing[:] = False
        climbing[moving] = True
        if not len(moving):
            break
    maxima, first = np.unique(current, axis=0, return_index=True)
    is_new = values[first] > -np.inf
    return np.asarray(maxima[is_new][np.argsort(-values[first][is_new], kind="stable")])


def _new_only(values: Floats, masks: BoolArray, known: Container[bytes]) -> Floats:
    """Return values [m], -inf where a mask bool [m, E] is known."""
    return np.where([mask.tobytes() in known for mask in masks], -np.inf, values)
