"""Random search: random masks of random density, the baseline that every agent must beat."""

from collections.abc import Sequence

import numpy as np

from ads_gym.agents.base import Optimiser
from ads_gym.problem import Scored
from ads_gym.records import Masks, checked
from ads_gym.topology import BoolArray


class RandomSearch(Optimiser):
    """Random masks of random density.

    A density uniform in [0, 1] first, then the bits, projected to the MACs limit.
    """

    source = "Li and Talwalkar 2019"
    batch_size = 32

    @checked
    def ask(self, n: Masks) -> BoolArray:
        """Return n masks bool [n, E] of `Problem.sample`."""
        return np.stack([self.problem.sample(self.rng) for _ in range(n)])

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Learn nothing."""
