"""Observations that mean the same for every network: a row for each connection, of what is known and what was decided.

Shapes: E skip connections, F features, n episodes. numpy only.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ads_gym.envs.episode import Episode, Rules
from ads_gym.envs.observations import FLAT_EXTRAS, FlatDisplay, FlatObserver
from ads_gym.envs.vector_episodes import Episodes, StepResults
from ads_gym.nets.features import Feature, ranks
from ads_gym.topology import IntArray

Rows = NDArray[np.float32]  # [n, E, F + 8]


class FeaturesObserver:
    """float32[E, F + 8]: ranks of features, then what the flat observation says of each connection and of all.

    Args:
        rules: of the episodes.
        features: returns the features float64 [E, F]; called when the first observation is made.
    """

    def __init__(self, rules: Rules, features: Callable[[], NDArray[np.float64]]) -> None:
        self._flat, self._features = FlatObserver(rules), features
        shape, flat = (rules.topology.size, len(Feature)), self._flat.space
        low = _rows(np.zeros(shape, np.float32), flat.low[None])[0]
        high = _rows(np.ones(shape, np.float32), flat.high[None])[0]
        self.space = spaces.Box(low, high, dtype=np.float32)

    @cached_property
    def ranks(self) -> NDArray[np.float32]:
        """float32 [E, F], each column from 0 (least) to 1."""
        return ranks(self._features().T).T.astype(np.float32)

    def __call__(self, episode: Episode, cost_weight: float) -> NDArray[np.float32]:
        """Return the rows of an episode."""
        return _rows(self.ranks, self._flat(episode, cost_weight)[None])[0]

    def display(self, count: int) -> "FeaturesDisplay":
        """Return a display for `count` episodes."""
        return FeaturesDisplay(self, self._flat.display(count))


class FeaturesDisplay:
    """float32[n, E, F + 8].

    Args:
        observer: knows the ranks.
        flat: of the same episodes.
    """

    def __init__(self, observer: FeaturesObserver, flat: FlatDisplay) -> None:
        self._observer, self._flat = observer, flat

    def reset(self, rows: IntArray, episodes: Episodes) -> None:
        """Update after a restart of episodes `rows` [k]."""
        self._flat.reset(rows, episodes)

    def update(self, results: StepResults) -> None:
        """Update after the last actions."""
        self._flat.update(results)

    def __call__(self, episodes: Episodes, cost_weight: float) -> Rows:
        """Return the rows of all episodes."""
        return _rows(self._observer.ranks, self._flat(episodes, cost_weight))


def _rows(known: NDArray[np.float32], flat: NDArray[Any]) -> Rows:
    """Ranks [E, F] and flat observations [n, 2E + 6] as rows; the six numbers are repeated in each."""
    size, count = len(known), len(flat)
    shape = (count, size, FLAT_EXTRAS)
    parts = (
        np.broadcast_to(known, (count, *known.shape)),
        flat[:, :size, None],
        flat[:, size : 2 * size, None],
        np.broadcast_to(flat[:, None, 2 * size :], shape),
    )
    return np.concatenate(parts, axis=2, dtype=np.float32)
