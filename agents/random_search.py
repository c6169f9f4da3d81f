"""Random search: what any agent must beat."""

from collections.abc import Sequence

import numpy as np

from ads_gym.agents.base import Optimiser
from ads_gym.problem import Scored
from ads_gym.topology import BoolArray


class RandomSearch(Optimiser):
    """Draws masks with a density uniform in [0, 1], made to fit the limit by dropping connections at random."""

    batch_size = 8

    def ask(self, n: int) -> BoolArray:
        """Return random masks bool [n, E]."""
        return np.stack([self.problem.sample(self.rng) for _ in range(n)])

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Do nothing: it does not learn."""
