"""Any Gymnasium environment as PPO steps it: flat observations, action masks, ends of episodes.

Shapes: N environments, O numbers of an observation, A = sum of the numbers of actions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from ads_gym.envs.episode import Rules
from ads_gym.errors import InvalidValue, shown

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Step(NamedTuple):
    """What a step of all environments gave."""

    observations: Floats  # [N, O]; where an episode ended, of the next one or (`resets_later`) its last
    rewards: NDArray[np.float64]  # [N]
    terminated: Bools  # [N]
    truncated: Bools  # [N]
    last: Floats | None  # [N, O]: the last observations of episodes that ended, where `observations` has the next ones


class Environments:
    """A vector environment, or a single one, with discrete or multi-discrete actions.

    Masks are those of a method `action_masks()`, bool [A] of a single environment (as sb3-contrib's MaskablePPO asks
    for them) or bool [N, A] of a vector environment; without one, those of `info["action_mask"]` from `reset` and
    `step` (as Gymnasium's Taxi gives them); where there is none, all actions are legal.

    Args:
        env: that is stepped.

    Raises:
        InvalidValue: another object, other actions, observations of no fixed size, or an environment that is not reset
            by itself.
    """

    def __init__(self, env: Any) -> None:
        if isinstance(env, gym.Env):
            single = env
            env = SyncVectorEnv([lambda: single], autoreset_mode=AutoresetMode.SAME_STEP)
        if not isinstance(env, VectorEnv):
            raise InvalidValue(f"recurrent-ppo steps a Gymnasium environment, or a vector of them, got {shown(env)}.")
        space = env.single_action_space
        if isinstance(space, spaces.Discrete) and space.start == 0:
            self.choices: tuple[int, ...] = (int(space.n),)
        elif isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
            self.choices = tuple(map(int, space.nvec))
        else:
            raise InvalidValue(
                f"recurrent-ppo chooses among actions that are numbered from 0, got {shown(space)}: give an "
                "environment of Discrete or MultiDiscrete actions."
            )
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if mode is AutoresetMode.DISABLED:
            raise InvalidValue(
                "recurrent-ppo needs environments that are reset when an episode ends, and these are not "
                "(autoreset_mode)."
            )
        self.resets_later = mode is AutoresetMode.NEXT_STEP
        self.env, self.count, self.is_discrete = env, env.num_envs, isinstance(space, spaces.Discrete)
        self._space = env.single_observation_space
        if not self._space.is_np_flattenable:
            raise InvalidValue(
                f"recurrent-ppo reads observations of a fixed number of numbers, got {shown(self._space)}: wrap the "
                "environment in a gymnasium.ObservationWrapper that gives a Box."
            )
        self.observation_size = spaces.flatdim(self._space)
        self._ask_masks: Callable[[], Any] | None = None
        self._info: dict[str, Any] = {}  # of the last reset or step

    @property
    def episode_length(self) -> int | None:
        """Steps of an episode, where all have as many: in the environment of this package."""
        vector = self.env.unwrapped
        env = vector.envs[0].unwrapped if isinstance(vector, SyncVectorEnv) else vector
        rules = getattr(getattr(env, "template", env), "rules", None)
        return len(rules.groups) if isinstance(rules, Rules) else None

    def reset(self, seed: int) -> Floats:
        """Begin all episodes; return the first observations [N, O]."""
        observations, self._info = self.env.reset(seed=seed)
        self._ask_masks = self._find_masks()
        return self.flat(observations)

    def step(self, actions: NDArray[np.int64]) -> Step:
        """Take actions [N, parts]."""
        given = actions[:, 0] if self.is_discrete else actions
        observations, rewards, terminated, truncated, info = self.env.step(given)
        self._info = info
        ended, last = terminated | truncated, None
        flat = self.flat(observations)
        if not self.resets_later and ended.any() and "final_obs" in info:
            last = flat.copy()
            for index in np.flatnonzero(ended):
                last[index] = self._flat_one(info["final_obs"][index])
        return Step(flat, np.asarray(rewards, np.float64), terminated, truncated, last)

    def masks(self) -> Bools:
        """What is legal now, bool [N, A].

        Raises:
            InvalidValue: masks of another size.
        """
        if self._ask_masks is not None:
            return legal(self._ask_masks(), self.choices, self.count)
        masks = np.ones((self.count, sum(self.choices)), np.bool_)
        for index in np.flatnonzero(self._info.get("_action_mask", ())):
            masks[index] = legal(self._info["action_mask"][index], self.choices, 1)[0]
        return masks

    def flat(self, observations: Any) -> Floats:
        """Observations of all environments as float32 [N, O]; of discrete ones, which they are."""
        if isinstance(self._space, spaces.Box):
            return np.array(observations, np.float32).reshape(self.count, -1)  # a copy: envs may use theirs again
        return np.stack([self._flat_one(each) for each in iterate(self.env.observation_space, observations)])

    def flat_for_prediction(self, observation: Any) -> tuple[Floats, bool]:
        """An observation, or several, as float32 [n, O]; and whether it was one.

        Raises:
            InvalidValue: of another environment.
        """
        try:
            if isinstance(self._space, spaces.Box):
                array = np.asarray(observation, np.float32)
                is_single = array.shape == self._space.shape
                return array.reshape(-1, self.observation_size), is_single
            if self._space.contains(observation):
                return self._flat_one(observation)[None], True
            batch = batch_space(self._space, len(observation))
            return np.stack([self._flat_one(each) for each in iterate(batch, observation)]), False
        except (TypeError, ValueError, IndexError) as error:
            raise InvalidValue(f"observations are of {self._space}, got {shown(observation)}.") from error

    def _flat_one(self, observation: Any) -> Floats:
        """One observation as float32 [O]."""
        return np.asarray(spaces.flatten(self._space, observation), np.float32)

    def _find_masks(self) -> Callable[[], Any] | None:
        """The method that gives masks, once the environments are reset; None: there is none.

        It is not tried out: a worker of AsyncVectorEnv ends at an error, and no error of the method is hidden.
        """
        env = self.env.unwrapped  # wrappers of a vector environment hide its methods
        if hasattr(env, "action_masks"):
            return env.action_masks  # type: ignore[no-any-return]
        call = getattr(env, "call", None)  # of SyncVectorEnv, AsyncVectorEnv and their like
        found = call("has_wrapper_attr", "action_masks") if call else ()
        if any(found) and not all(found):
            raise InvalidValue(f"only environments {np.flatnonzero(found)} of {self.count} have action_masks().")
        return (lambda: call("action_masks")) if call and any(found) else None


def legal(masks: Any, choices: Sequence[int], count: int) -> Bools:
    """Masks as bool [count, A]; a part without a legal action (the episode has ended) has all of them.

    Args:
        masks: [count, A], or [A] of one; of a multi-discrete action also a tuple of its parts, as Gymnasium samples by.
        choices: how many actions each part of an action chooses among.
        count: of environments.

    Raises:
        InvalidValue: of another size.
    """
    flat = np.concatenate([np.ravel(part) for part in masks]) if isinstance(masks, tuple) else np.asarray(masks)
    if flat.size != count * sum(choices):
        raise InvalidValue(f"action masks are of {count} x {sum(choices)} actions, got {flat.size} values.")
    given = flat.astype(np.bool_).reshape(count, -1)
    nothing = ~np.logical_or.reduceat(given, np.cumsum([0, *choices[:-1]]), axis=1)
    return np.asarray(given | np.repeat(nothing, choices, axis=1))
