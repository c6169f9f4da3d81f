"""The environment with a reward for each objective, as MO-Gymnasium and multi-objective agents expect it."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import InvalidValue, shown
from ads_gym.evaluators.base import FIELD_TYPES, Metrics
from ads_gym.objective import accuracy, soft
from ads_gym.topology import Int8Array

Floats = NDArray[np.float64]


class MultiObjective(gym.Wrapper[NDArray[Any], Any, NDArray[Any], Any], RecordConstructorArgs):
    """Pay what a network is worth and what it costs as two numbers, instead of their difference.

    ```python
    env = MultiObjective(gym.make("ads_gym:DenseNetSparsify-v0", task="digits", reward="soft"))
    ```

    The reward of a step is float64[2]:

    - the reward of the network, before cost: 0 until the last step, which pays it ("accuracy", "soft", "loss", or a
      function, by the environment's keyword `reward`);
    - minus the relative cost of the connections that this step keeps (the first step pays for those that were given to
      `reset`, too).

    So the undiscounted return of an episode is (reward of the network, -relative cost), and its product with (1, cost
    weight) is the return of the environment with that cost weight. The environment's own cost weight changes nothing
    here (observation "flat" shows it): leave it 0. Learn with gamma = 1, as in `DenseNetSparsifyEnv`.

    MO-Gymnasium is not needed, and its wrappers work on this one. They, and the agents of MORL-Baselines, look for
    `reward_space` in `env.unwrapped`, so `unwrapped` ends at this wrapper, and what it wraps is `env.unwrapped.base`.
    For several environments: `mo_gymnasium.wrappers.vector.MOSyncVectorEnv`.

    Args:
        env: what `gym.make` returns.

    Attributes:
        base: the `DenseNetSparsifyEnv` within.
        reward_space: Box float64 [2], the range of a step's reward.
        reward_dim: 2.

    Raises:
        InvalidValue: another environment, a vector environment, or one that is wrapped in a `MultiObjective` already.
    """

    def __init__(self, env: gym.Env[NDArray[Any], Any]) -> None:
        if not isinstance(env, gym.Env) or not isinstance(env.unwrapped, DenseNetSparsifyEnv):
            raise InvalidValue(
                "MultiObjective wraps one DenseNetSparsify environment, as in "
                f"MultiObjective(gym.make('DenseNetSparsify-v0')); got {shown(env)}."
            )
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.base = env.unwrapped
        self._paid_macs = self.base.rules.least_macs
        is_share = self.base.problem.objective.function in (accuracy, soft)
        low, high = (0.0, 1.0) if is_share else (-np.inf, np.inf)
        self.reward_space = spaces.Box(np.array([low, -1.0]), np.array([high, 0.0]), dtype=np.float64)
        self.reward_dim = 2

    @property
    def unwrapped(self) -> gym.Env[NDArray[Any], Any]:
        """This wrapper: the environment within pays another reward."""
        return self

    @property
    def _np_random(self) -> Any:  # type: ignore[override]
        # Gymnasium's checker reads it from `unwrapped`, and other wrappers have none.
        return self.base._np_random

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode; see `DenseNetSparsifyEnv.reset`."""
        outcome = self.env.reset(seed=seed, options=options)
        self._paid_macs = self.base.rules.least_macs
        return outcome

    def step(self, action: Any) -> tuple[NDArray[Any], Floats, bool, bool, dict[str, Any]]:
        """Decide the next connections; see `DenseNetSparsifyEnv.step` and, for the reward, above."""
        observation, _, over, truncated, info = self.env.step(action)
        worth = self.base.problem.objective.reward(_metrics(info)) if over else 0.0
        return observation, np.array([worth, 0.0 - self._cost(info["decisions"])]), over, truncated, info

    def _cost(self, decisions: Int8Array) -> float:
        """Return the relative cost of what is kept in `decisions` int8[E] and was not paid for, and take it as paid."""
        macs = int(self.base.cost.macs(decisions == 1))
        spent, self._paid_macs = macs - self._paid_macs, macs
        return spent / self.base.rules.skip_macs


def _metrics(info: dict[str, Any]) -> Metrics:
    """Return the metrics in the info of a last step."""
    return Metrics(**{name: info[name].item() for name in FIELD_TYPES})
