"""Observations of an episode: the partial adjacency matrices, or one flat vector.

An observer makes the observation of one episode. A display makes those of many, and updates only what changed.
Shapes: E skip connections, B blocks, N nodes (most layers in a block + 2), n episodes, S slots. numpy only.
"""

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ads_gym.choices import Choice
from ads_gym.envs.episode import Episode, Rules
from ads_gym.envs.vector_episodes import Episodes, StepResults
from ads_gym.limits import MAX_COST_WEIGHT
from ads_gym.topology import UNDECIDED, Int8Array, IntArray

FLAT_EXTRAS = 6  # numbers of a flat observation behind the two vectors of E


class Observation(Choice, what="observation"):
    """Form of the observation."""

    MATRIX = "matrix"
    FLAT = "flat"
    FEATURES = "features"  # see `feature_observations`


class Observer(Protocol):
    """Makes the observation of an episode."""

    space: spaces.Box

    def __call__(self, episode: Episode, cost_weight: float) -> NDArray[Any]:
        """Return a fresh array, an element of `space`."""

    def display(self, count: int) -> "Display":
        """Return the display that makes the same observations for `count` episodes."""


class Display(Protocol):
    """Makes the observations of several episodes."""

    def reset(self, rows: IntArray, episodes: Episodes) -> None:
        """Update after a restart of episodes `rows` [k]."""

    def update(self, results: StepResults) -> None:
        """Update after the last actions."""

    def __call__(self, episodes: Episodes, cost_weight: float) -> NDArray[Any]:
        """Return a fresh array [n, ...], a row for each episode."""


class MatrixObserver:
    """int8[B, N, N]: the partial adjacency; equal to `topology.adjacency(episode.decisions)`, and faster."""

    def __init__(self, rules: Rules) -> None:
        topology = rules.topology
        self._template = topology.adjacency(np.full(topology.size, UNDECIDED, np.int8))
        block, dst, src = topology.connections.T
        self._where = np.ravel_multi_index((block, dst, src), self._template.shape)
        self.space = spaces.Box(-1, 1, self._template.shape, np.int8)

    def __call__(self, episode: Episode, cost_weight: float) -> Int8Array:
        """Return the matrices of an episode; the cost weight is not part of them."""
        matrix = self._template.copy()
        matrix.reshape(-1)[self._where] = episode.decisions
        return matrix

    def display(self, count: int) -> "MatrixDisplay":
        """Return a display for `count` episodes."""
        return MatrixDisplay(self._template, self._where, count)


class MatrixDisplay:
    """int8[n, B, N, N].

    Args:
        template: int8[B, N, N] of an episode in which nothing is decided.
        where: int64[E], the place of each connection in a raveled matrix.
        count: n.
    """

    def __init__(self, template: Int8Array, where: IntArray, count: int) -> None:
        self._template, self._shape = template.reshape(-1), (count, *template.shape)
        self._where, self._place = where, np.append(where, template.size)  # the last: nothing, in a column of its own
        self._cells = np.zeros((count, template.size + 1), np.int8)
        self._rows = np.arange(count)[:, None] * (template.size + 1)  # where each row of the raveled cells begins

    def reset(self, rows: IntArray, episodes: Episodes) -> None:
        """Update after a restart of episodes `rows` [k]."""
        self._cells[rows, :-1] = self._template
        self._cells[rows[:, None], self._where] = episodes.decisions[rows]

    def update(self, results: StepResults) -> None:
        """Update after the last actions."""
        self._cells.reshape(-1)[self._rows + self._place[results.decided]] = results.executed

    def __call__(self, episodes: Episodes, cost_weight: float) -> Int8Array:
        """Return the matrices of all episodes; the cost weight is not part of them."""
        return self._cells[:, :-1].copy().reshape(self._shape)


class FlatObserver:
    """float32[2E + 6]: decisions, what is decided next, and six numbers, as the environment's docstring lists them."""

    def __init__(self, rules: Rules) -> None:
        self._size = size = rules.topology.size
        low, high = np.zeros(2 * size + FLAT_EXTRAS, np.float32), np.ones(2 * size + FLAT_EXTRAS, np.float32)
        low[:size] = -1
        low[-1], high[-1] = -MAX_COST_WEIGHT, MAX_COST_WEIGHT
        self.space = spaces.Box(low, high, dtype=np.float32)
        self._signs = np.array([-1, 1, 0], np.float32)  # of a dropped, a kept and (index -1: the last) an undecided one

    def __call__(self, episode: Episode, cost_weight: float) -> NDArray[np.float32]:
        """Return the vector of an episode."""
        size, rules, step = self._size, episode.rules, episode.next_step
        vector = np.zeros(2 * size + FLAT_EXTRAS, np.float32)
        vector[:size] = self._signs[episode.decisions]
        for _, index in step.bits:
            vector[size + index] = 1
        vector[2 * size :] = (
            episode.decided / size,
            (episode.macs - rules.least_macs) / rules.skip_macs,
            step.macs / rules.skip_macs,
            episode.undecided_macs / rules.skip_macs,
            (rules.limit - episode.macs) / rules.cost.dense_macs,
            cost_weight,
        )
        return vector

    def display(self, count: int) -> "FlatDisplay":
        """Return a display for `count` episodes."""
        return FlatDisplay(self._size, count)


class FlatDisplay:
    """float32[n, 2E + 6].

    Args:
        size: E.
        count: n.
    """

    def __init__(self, size: int, count: int) -> None:
        self._size, width = size, 2 * size + FLAT_EXTRAS
        self._sign_place = np.append(np.arange(size), width)  # the last: nothing, in a column of its own
        self._next_place = np.append(np.arange(size, 2 * size), width)
        self._cells = np.zeros((count, width + 1), np.float32)
        self._rows = np.arange(count)[:, None] * (width + 1)  # where each row of the raveled cells begins
        self._signs = np.array([-1, 1, 0], np.float32)  # as in `FlatObserver`

    def reset(self, rows: IntArray, episodes: Episodes) -> None:
        """Update after a restart of episodes `rows` [k]."""
        self._cells[rows] = 0
        self._cells[rows, : self._size] = self._signs[episodes.decisions[rows]]

    def update(self, results: StepResults) -> None:
        """Update after the last actions."""
        cells = self._cells.reshape(-1)
        cells[self._rows + self._sign_place[results.decided]] = self._signs[results.executed]
        cells[self._rows + self._next_place[results.decided]] = 0

    def __call__(self, episodes: Episodes, cost_weight: float) -> NDArray[np.float32]:
        """Return the vectors of all episodes."""
        rules = episodes.rules
        self._cells.reshape(-1)[self._rows + self._next_place[episodes.index]] = 1
        numbers = self._cells[:, 2 * self._size : -1]
        numbers[:, 0] = episodes.decided / self._size
        numbers[:, 1] = (episodes.macs - rules.least_macs) / rules.skip_macs
        numbers[:, 2] = episodes.next_macs / rules.skip_macs
        numbers[:, 3] = episodes.undecided_macs / rules.skip_macs
        numbers[:, 4] = (rules.limit - episodes.macs) / rules.cost.dense_macs
        numbers[:, 5] = cost_weight
        return self._cells[:, :-1].copy()
