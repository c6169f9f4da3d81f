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

Rows = NDArray[np.float32]  # [n, E, F + 9]
ROOM = FLAT_EXTRAS - 2  # place of the room that is left among the numbers that all rows share


class FeaturesObserver:
    """float32[E, F + 9]: ranks of features, cost, then what the flat observation says of each connection and of all.

    Args:
        rules: of the episodes.
        features: returns the features float64 [E, F]; called when the first observation is made.
    """

    def __init__(self, rules: Rules, features: Callable[[], NDArray[np.float64]]) -> None:
        self._flat, self._features = FlatObserver(rules), features
        self._shape = rules.topology.size, len(Feature)
        self._costs = rules.cost.relative_costs.astype(np.float32)
        self._scale = np.float32(rules.cost.dense_macs / rules.skip_macs)
        flat = self._flat.space
        low, high = (self.rows(edge[None], np.full(self._shape, end)) for end, edge in enumerate((flat.low, flat.high)))
        self.space = spaces.Box(low[0], high[0], dtype=np.float32)

    @cached_property
    def ranks(self) -> NDArray[np.float32]:
        """float32 [E, F], each column from 0 (least) to 1."""
        return np.asarray(ranks(self._features().T).T, np.float32)

    def __call__(self, episode: Episode, cost_weight: float) -> NDArray[np.float32]:
        """Return the rows of an episode."""
        return np.asarray(self.rows(self._flat(episode, cost_weight)[None], self.ranks)[0])

    def rows(self, flat: NDArray[np.float32], known: NDArray[Any]) -> Rows:
        """Return flat observations [n, 2E + 6] and ranks [E, F] as rows; what is said of all is repeated in each."""
        size, count = self._shape[0], len(flat)
        numbers = flat[:, 2 * size :].copy()
        numbers[:, ROOM] = np.clip(numbers[:, ROOM] * self._scale, 0, 1)
        parts = (
            np.broadcast_to(known, (count, *self._shape)),
            np.broadcast_to(self._costs[:, None], (count, size, 1)),
            flat[:, :size, None],
            flat[:, size : 2 * size, None],
            np.broadcast_to(numbers[:, None], (count, size, FLAT_EXTRAS)),
        )
        return np.concatenate(parts, axis=2, dtype=np.float32)

    def display(self, count: int) -> "FeaturesDisplay":
        """Return a display for `count` episodes."""
        return FeaturesDisplay(self, self._flat.display(count))


class FeaturesDisplay:
    """float32[n, E, F + 9].

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
        return self._observer.rows(self._flat(episodes, cost_weight), self._observer.ranks)
