"""What an agent sees of an episode: the adjacency matrices as they fill, or one flat vector.

Shapes: E skip connections, B blocks, N nodes (most layers in a block + 2). numpy only.
"""

from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ads_gym.episode import Episode, Rules
from ads_gym.errors import unknown_name
from ads_gym.rewards import MOST_COST_WEIGHT
from ads_gym.topology import UNDECIDED, Int8Array

FLAT_EXTRAS = 6  # numbers of a flat observation behind the two vectors of E


class Observation(StrEnum):
    """In what form the state is shown."""

    MATRIX = "matrix"
    FLAT = "flat"

    @classmethod
    def _missing_(cls, value: object) -> "Observation":
        raise unknown_name("observation", value, list(cls))


class Observer(Protocol):
    """Shows episodes."""

    space: spaces.Box

    def __call__(self, episode: Episode, cost_weight: float) -> NDArray[Any]:
        """A fresh array, an element of `space`."""


class MatrixObserver:
    """int8[B, N, N]: the partial adjacency; equal to `topology.adjacency(episode.decisions)`, and faster."""

    def __init__(self, rules: Rules) -> None:
        topology = rules.topology
        self._template = topology.adjacency(np.full(topology.size, UNDECIDED, np.int8))
        block, dst, src = topology.connections.T
        self._where = np.ravel_multi_index((block, dst, src), self._template.shape)
        self.space = spaces.Box(-1, 1, self._template.shape, np.int8)

    def __call__(self, episode: Episode, cost_weight: float) -> Int8Array:
        """The matrices of an episode; the cost weight is not among what they show."""
        matrix = self._template.copy()
        matrix.reshape(-1)[self._where] = episode.decisions
        return matrix


class FlatObserver:
    """float32[2E + 6]: decisions, what is decided next, and six numbers, as the environment's docstring lists them."""

    def __init__(self, rules: Rules) -> None:
        self._size = size = rules.topology.size
        low, high = np.zeros(2 * size + FLAT_EXTRAS, np.float32), np.ones(2 * size + FLAT_EXTRAS, np.float32)
        low[:size] = -1
        low[-1], high[-1] = -MOST_COST_WEIGHT, MOST_COST_WEIGHT
        self.space = spaces.Box(low, high, dtype=np.float32)
        self._signs = np.array([-1, 1, 0], np.float32)  # of a dropped, a kept and (index -1: the last) an undecided one

    def __call__(self, episode: Episode, cost_weight: float) -> NDArray[np.float32]:
        """The vector of an episode."""
        size, rules, turn = self._size, episode.rules, episode.turn
        vector = np.zeros(2 * size + FLAT_EXTRAS, np.float32)
        vector[:size] = self._signs[episode.decisions]
        for _, index in turn.bits:
            vector[size + index] = 1
        vector[2 * size :] = (
            episode.decided / size,
            (episode.macs - rules.least_macs) / rules.span,
            turn.macs / rules.span,
            episode.undecided_macs / rules.span,
            (rules.limit - episode.macs) / rules.cost.dense_macs,
            cost_weight,
        )
        return vector


OBSERVERS: dict[Observation, type[MatrixObserver] | type[FlatObserver]] = {
    Observation.MATRIX: MatrixObserver,
    Observation.FLAT: FlatObserver,
}
