"""The vector environment as a Stable-Baselines3 `VecEnv`."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import InvalidValue, shown, unknown_name
from ads_gym.records import Seed, check
from ads_gym.topology import UNDECIDED, BoolArray

Options = dict[str, Any]


class DenseNetSparsifyVecEnv(VecEnv):
    """A `VecEnv` over a `DenseNetSparsifyVectorEnv`, in any autoreset mode, wrapped or not.

    It does what a `DummyVecEnv` of single environments in `Monitor`s does: an environment is reset in the step that
    ends its episode, whose `info` has `terminal_observation` and Monitor's `episode` (return, length, seconds).

    Args:
        env: the vector environment.

    Raises:
        InvalidValue: another environment.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if not isinstance(env, VectorEnv) or not isinstance(env.unwrapped, DenseNetSparsifyVectorEnv):
            raise InvalidValue(
                "vec_env takes a DenseNetSparsifyVectorEnv, as gym.make_vec('ads_gym:DenseNetSparsifyFlat-v0', "
                f"num_envs=8) makes it; got {shown(env)}."
            )
        self._env = env
        self._plain = env.unwrapped
        self._started = time.time()
        self._episode_returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        self._next_seeds: list[int] | None = None
        self._next_options: list[Options] = []
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seeds of the next reset, N in a row, and return them."""
        first = (
            int(np.random.default_rng().integers(2**32 - self.num_envs)) if seed is None else check(seed, Seed, "seed")
        )
        self._next_seeds = [first + index for index in range(self.num_envs)]
        return self._next_seeds

    def set_options(self, options: list[Options] | Options | None = None) -> None:
        """Set the options of the next reset, the same for all environments or one for each.

        Raises:
            InvalidValue: no dicts, or another number of them.
        """
        each = [options or {}] * self.num_envs if options is None or isinstance(options, dict) else options
        if not isinstance(each, Sequence) or not all(isinstance(one, dict) for one in each):
            raise InvalidValue(f"options are a dict, or {self.num_envs} dicts, got {shown(options)}.")
        if len(each) != self.num_envs:
            raise InvalidValue(f"options are a dict, or {self.num_envs} dicts, got {len(each)}.")
        self._next_options = [dict(one) for one in each]

    def reset(self) -> NDArray[Any]:
        """Start all episodes, with the seeds and options that were set.

        Raises:
            UnknownName, InvalidValue: another option than `decided`, or decisions that no episode can start from.
        """
        seeds, options = self._next_seeds, self._next_options
        for name in {name for each in options for name in each}:
            if name != "decided":
                raise unknown_name("reset option", name, ["decided"])
        given = {}
        if any(options):
            free = np.full(self._plain.topology.size, UNDECIDED, np.int8)
            given["decided"] = np.stack(
                [self._plain.topology.check_decisions(each.get("decided", free)) for each in options]
            )
        observations, infos = self._env.reset(seed=seeds, options=given)  # type: ignore[arg-type]
        self.reset_infos = _split(infos, self.num_envs)
        self._episode_returns[:], self._lengths[:] = 0, 0
        self._next_seeds, self._next_options = None, []
        return np.asarray(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Store the actions of the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[Any], NDArray[np.float32], BoolArray, list[dict[str, Any]]]:
        """Step all environments, and reset those whose episodes end."""
        observations, rewards, over, _, infos = self._env.step(self._actions)
        self._episode_returns += rewards
        self._lengths += 1
        split = _split(infos, self.num_envs)
        if over.any():
            observations, split = self._reset_ended(over, observations, infos, split)
        for info in split:
            info["TimeLimit.truncated"] = False
        return observations, np.asarray(rewards, np.float32), over, split

    def _reset_ended(
        self, over: BoolArray, observations: Any, infos: Any, split: list[dict[str, Any]]
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Reset environments where `over` bool [N], and return observations and infos of this step."""
        last, fresh = observations, infos
        if self._plain.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP:
            last = infos["final_obs"]
            final = _split(infos["final_info"], self.num_envs)
            split = [final[row] if over[row] else split[row] for row in range(self.num_envs)]
        else:
            observations, fresh = self._env.reset(options={"reset_mask": over})
        begun = _split(fresh, self.num_envs)
        for row in np.flatnonzero(over).tolist():
            self.reset_infos[row] = begun[row]
            split[row] |= {"terminal_observation": np.array(last[row]), "episode": self._end_episode(row)}
        return observations, split

    def _end_episode(self, row: int) -> dict[str, Any]:
        """Return Monitor's record of the episode that has ended in environment `row`."""
        seconds = round(time.time() - self._started, 6)
        episode = {"r": round(float(self._episode_returns[row]), 6), "l": int(self._lengths[row]), "t": seconds}
        self._episode_returns[row], self._lengths[row] = 0, 0
        return episode

    def close(self) -> None:
        """Close the vector environment."""
        self._env.close()

    def get_images(self) -> Sequence[Any]:
        """Return an image of each environment."""
        return self._plain.render()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of each environment; they share all of them."""
        return [getattr(self._plain.template, attr_name) for _ in self._rows(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of all environments.

        Raises:
            InvalidValue: of some of them only; they share it.
        """
        if len(set(self._rows(indices))) < self.num_envs:
            raise InvalidValue(f"the environments share {attr_name!r}: set it for all of them.")
        setattr(self._plain.template, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Return what a method returns in each environment; one that they share is called once."""
        returned = self._plain.call(method_name, *method_args, **method_kwargs)
        return [returned[row] for row in self._rows(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Return True for SB3's `Monitor`, whose record is kept here."""
        return [issubclass(Monitor, wrapper_class) for _ in self._rows(indices)]

    def _rows(self, indices: int | Iterable[int] | None) -> Iterable[int]:
        """Return the environments that `indices` selects, as SB3's methods do."""
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else indices


def _split(infos: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the infos of each environment, from Gymnasium's vector form."""
    split: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, column in infos.items():
        if f"_{key}" not in infos or key in ("final_obs", "final_info"):  # a mask, or the end of an episode
            continue
        has_key: Any = infos[f"_{key}"]
        for row in range(count) if has_key.all() else np.flatnonzero(has_key):
            split[row][key] = column[row]
    return split
