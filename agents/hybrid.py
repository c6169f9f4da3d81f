"""`recurrent` and `bayes` in turn: after each batch of episodes, batches that the Gaussian process proposes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from ads_gym.agents.bayes.agent import Bayes
from ads_gym.agents.recurrent.agent import Recurrent, RecurrentConfig
from ads_gym.agents.recurrent.rollout import Episode
from ads_gym.topology import BoolArray


@dataclass(frozen=True)
class HybridConfig(RecurrentConfig):
    """Settings of `Hybrid`, besides those of `Recurrent`."""

    surrogate_batches: int = 3  # proposed batches after each batch of episodes
    kappa: float = 3.0  # as in `Bayes`
    starts: int = 8  # as in `Bayes`; the masks of the last episodes are starts too

    MINIMA: ClassVar[dict[str, int]] = RecurrentConfig.MINIMA | {"surrogate_batches": 0, "starts": 1}


class Hybrid(Recurrent):
    """The recurrent policy and Bayesian optimisation in turn; each learns from the masks of both.

    Args:
        env: as in `Recurrent`.
        seed: of all random numbers.
        options: fields of `HybridConfig`.

    Raises:
        UnknownName, InvalidValue: as `Recurrent`.
    """

    Config: ClassVar[type[RecurrentConfig]] = HybridConfig
    config: HybridConfig

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], *, seed: int = 0, **options: Any) -> None:
        super().__init__(env, seed=seed, **options)
        self._bayes = Bayes(self.problem, seed=self._rng, kappa=self.config.kappa, starts=self.config.starts)

    def _learn_from(self, episodes: Sequence[Episode]) -> None:
        """Update the policy by a batch of episodes, and have proposed masks scored."""
        super()._learn_from(episodes)
        if self._rollout.has_given:
            return
        played = np.stack([episode.mask for episode in episodes])
        for _ in range(self.config.surrogate_batches):
            masks = self._bayes.suggest(self.config.batch_size, played)
            if len(masks):
                self._score(masks)

    def _remember(self, masks: Iterable[BoolArray], objectives: Sequence[float]) -> None:
        """Keep the best masks, and tell the surrogate."""
        masks = list(masks)
        super()._remember(masks, objectives)
        self._bayes.observe(masks, objectives)
