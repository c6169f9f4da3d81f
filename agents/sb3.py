"""Stable-Baselines3 on the vector environment: an adapter for any of its models, and three of them as agents.

    model = PPO("MlpPolicy", vec_env(gym.make_vec("ads_gym:DenseNetSparsifyFlat-v0", num_envs=8)), gamma=1.0)
    ads-gym search --agent sb3:ppo --agent-option learning_rate=0.001

Their defaults are made for long games with a reward at every step. Here the score comes with the last decision, so
gamma and gae_lambda are 1 (at gae_lambda 0.95 a tenth of the credit is left after 45 steps, nothing after 198; with a
discount it would be another game). A rollout is 8 whole episodes, and as many whole ones each where environments do not
divide 8; it is one batch, learned from four times. Options are those of SB3's own constructors, whose defaults hold for
whatever is not named here.

This is the only file that knows Stable-Baselines3, and it imports it where it is used.
"""

import inspect
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import AdsGymError, InvalidValue, unknown_name
from ads_gym.imports import import_package
from ads_gym.topology import UNDECIDED, BoolArray

EPISODES = 8  # in a rollout
FOREVER = 10**9  # steps: the budget ends the run
INFINITY = float("inf")
RANGES: dict[str, tuple[type, float, float]] = {  # kind, least, most: what SB3 checks late or never
    "n_steps": (int, 1, INFINITY),
    "batch_size": (int, 1, INFINITY),
    "n_epochs": (int, 1, INFINITY),
    "stats_window_size": (int, 1, INFINITY),
    "gamma": (float, 0, 1),
    "gae_lambda": (float, 0, 1),
    "ent_coef": (float, -INFINITY, INFINITY),
    "vf_coef": (float, -INFINITY, INFINITY),
    "max_grad_norm": (float, 0, INFINITY),
    "target_kl": (float, 0, INFINITY),
}
CONTRIB = "sb3-contrib"  # what pip calls the package of RecurrentPPO and MaskablePPO


def ppo(env: Any, seed: int, **options: Any) -> None:
    """Stable-Baselines3's PPO, with two hidden layers on the flat observation.

    Args:
        env: `DenseNetSparsifyVectorEnv`, observation "flat".
        seed: of all that it draws.
        options: of SB3's `PPO`.

    Raises:
        UnknownName, InvalidValue: an option that it does not have, or that SB3 cannot use.
    """
    _play("ppo", import_package("stable_baselines3", "stable-baselines3").PPO, env, seed, options)


def recurrent(env: Any, seed: int, **options: Any) -> None:
    """sb3-contrib's RecurrentPPO, with an LSTM of 32 units on the flat observation.

    Args:
        env: `DenseNetSparsifyVectorEnv`, observation "flat".
        seed: of all that it draws.
        options: of sb3-contrib's `RecurrentPPO`.

    Raises:
        UnknownName, InvalidValue: an option that it does not have, or that SB3 cannot use.
        MissingPackage: sb3-contrib is not installed.
    """
    size = {"policy": "MlpLstmPolicy", "policy_kwargs": {"lstm_hidden_size": 32, "net_arch": [32]}}
    _play("recurrent", import_package("sb3_contrib", CONTRIB).RecurrentPPO, env, seed, size | options)


def maskable(env: Any, seed: int, **options: Any) -> None:
    """sb3-contrib's MaskablePPO, with two hidden layers on the flat observation: it never tries what does not fit.

    Args:
        env: `DenseNetSparsifyVectorEnv`, observation "flat".
        seed: of all that it draws.
        options: of sb3-contrib's `MaskablePPO`.

    Raises:
        UnknownName, InvalidValue: an option that it does not have, or that SB3 cannot use.
        MissingPackage: sb3-contrib is not installed.
    """
    _play("maskable", import_package("sb3_contrib", CONTRIB).MaskablePPO, env, seed, options)


for _agent in (ppo, recurrent, maskable):
    _agent.num_envs = EPISODES  # type: ignore[attr-defined]
    _agent.observation = "flat"  # type: ignore[attr-defined]


def settings(envs: DenseNetSparsifyVectorEnv) -> dict[str, Any]:
    """Keywords with which SB3's PPOs learn this game: see the module's docstring."""
    steps = len(envs.one.rules.groups) * max(1, EPISODES // envs.num_envs)
    return {
        "policy": "MlpPolicy",
        "n_steps": steps,
        "batch_size": steps * envs.num_envs,
        "n_epochs": 4,
        "learning_rate": 3e-3,
        "gamma": 1.0,
        "gae_lambda": 1.0,
        "device": "cpu",
    }


def _play(name: str, model: Any, env: Any, seed: int, options: dict[str, Any]) -> None:
    """Builds a model and lets it learn until `BudgetExhausted` comes out of it."""
    envs = vec_env(env)
    parameters = inspect.signature(model).parameters
    known = set(parameters) - {"env", "seed", "_init_setup_model"}
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of agent sb3:{name}:", option, known)
        if option in RANGES and not (value is None and parameters[option].default is None):
            _check(name, option, value)
    try:
        made = model(env=envs, seed=seed, **settings(env.unwrapped) | options)
    except AdsGymError:
        raise
    except Exception as error:  # of any kind, from whatever part of SB3 or torch an option reaches
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidValue(f"agent sb3:{name} cannot be built with options {options}: {words:.300}") from error
    made.learn(FOREVER)


def _check(name: str, option: str, value: object) -> None:
    """Finds a number out of range, or none."""
    kind, least, most = RANGES[option]
    numbers = (int, np.integer) if kind is int else (int, float, np.integer, np.floating)
    if not isinstance(value, numbers) or isinstance(value, bool) or not least <= value <= most:
        what = "whole number" if kind is int else "number"
        bounds = f" of at least {least:g}" if most == INFINITY else f" from {least:g} to {most:g}"
        raise InvalidValue(
            f"option {option} of agent sb3:{name} must be a {what}{bounds if least > -INFINITY else ''}, got {value!r}."
        )


def vec_env(env: VectorEnv[Any, Any, Any]) -> Any:
    """A Stable-Baselines3 `VecEnv` over `DenseNetSparsifyVectorEnv`, in any autoreset mode, wrapped or not.

    It is what a `DummyVecEnv` of single environments in `Monitor`s would be: an environment is reset in the step that
    ends its episode, whose `info` has `terminal_observation` and Monitor's `episode` (return, length, seconds).

    Raises:
        InvalidValue: another environment.
    """
    if not isinstance(env, VectorEnv) or not isinstance(env.unwrapped, DenseNetSparsifyVectorEnv):
        raise InvalidValue(
            "vec_env takes a DenseNetSparsifyVectorEnv, as gym.make_vec('ads_gym:DenseNetSparsifyFlat-v0', num_envs=8) "
            f"makes it; got {env!r:.80}."
        )
    return _adapter()(env)


@cache
def _adapter() -> type[Any]:
    """`Adapter` as a subclass of SB3's `VecEnv`."""
    base = import_package("stable_baselines3.common.vec_env", "stable-baselines3").VecEnv
    return type("DenseNetSparsifyVecEnv", (Adapter, base), {})


class Adapter:
    """What SB3's `VecEnv` leaves to its subclasses; N environments."""

    num_envs: int
    render_mode: str | None
    reset_infos: list[dict[str, Any]]
    _seeds: list[int | None]
    _options: list[dict[str, Any]]

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self._env: VectorEnv[Any, Any, Any] = env
        self._plain: DenseNetSparsifyVectorEnv = env.unwrapped  # type: ignore[assignment]
        self._begun = time.time()
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)  # type: ignore[call-arg]

    def reset(self) -> NDArray[Any]:
        """Starts all episodes, with the seeds and options that were set.

        Raises:
            UnknownName, InvalidValue: another option than `decided`, or bits that an episode cannot start from.
        """
        options: dict[str, Any] = {}
        for name in {name for each in self._options for name in each}:
            if name != "decided":
                raise unknown_name("reset option", name, ["decided"])
        if any(self._options):
            free = np.full(self._plain.topology.size, UNDECIDED, np.int8)
            options["decided"] = np.stack([each.get("decided", free) for each in self._options])
        seeds = None if self._seeds[0] is None else self._seeds
        observations, infos = self._env.reset(seed=seeds, options=options)  # type: ignore[arg-type]
        self.reset_infos = _rows(infos, self.num_envs)
        self._returns[:], self._lengths[:] = 0, 0
        self._reset_seeds()  # type: ignore[attr-defined]
        self._reset_options()  # type: ignore[attr-defined]
        return np.asarray(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[Any], NDArray[np.float32], BoolArray, list[dict[str, Any]]]:
        """Decides what is next in each environment; where that ended an episode, the next begins."""
        observations, rewards, over, _, infos = self._env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        ended = np.flatnonzero(over).tolist()
        told = _rows(infos, self.num_envs)
        if ended:
            last, fresh = observations, infos
            if self._plain.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP:
                last = infos["final_obs"]
                final = _rows(infos["final_info"], self.num_envs)
                told = [final[row] if over[row] else told[row] for row in range(self.num_envs)]
            else:
                observations, fresh = self._env.reset(options={"reset_mask": over})
            begun = _rows(fresh, self.num_envs)
            for row in ended:
                self.reset_infos[row] = begun[row]
                told[row] |= {"terminal_observation": np.array(last[row]), "episode": self._episode(row)}
        for info in told:
            info["TimeLimit.truncated"] = False
        return observations, np.asarray(rewards, np.float32), over, told

    def _episode(self, row: int) -> dict[str, Any]:
        """What Monitor tells of the episode that is over in environment `row`."""
        seconds = round(time.time() - self._begun, 6)
        told = {"r": round(float(self._returns[row]), 6), "l": int(self._lengths[row]), "t": seconds}
        self._returns[row], self._lengths[row] = 0, 0
        return told

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def get_images(self) -> Sequence[Any]:
        """A picture of each environment."""
        return self._plain.render()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each environment. All share one, so it is the same."""
        return [getattr(self._plain.one, attr_name) for _ in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets an attribute of all environments.

        Raises:
            InvalidValue: of some of them only; they share it.
        """
        if len(set(self._chosen(indices))) < self.num_envs:
            raise InvalidValue(f"the environments share {attr_name!r}: set it for all of them.")
        setattr(self._plain.one, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """What a method gives in each environment; what all share is asked once."""
        given = self._plain.call(method_name, *method_args, **method_kwargs)
        return [given[index] for index in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """True for SB3's `Monitor`: what it tells of an episode is told here."""
        monitor = import_package("stable_baselines3.common.monitor", "stable-baselines3").Monitor
        return [issubclass(monitor, wrapper_class) for _ in self._chosen(indices)]

    def _chosen(self, indices: Any) -> Iterable[int]:
        """The environments that are meant."""
        return self._get_indices(indices)  # type: ignore[attr-defined,no-any-return]


def _rows(infos: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The infos of each environment, from Gymnasium's vector form."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, column in infos.items():
        if f"_{key}" not in infos or key in ("final_obs", "final_info"):  # a mask, or what is put aside
            continue
        values = column.tolist() if column.ndim == 1 else column  # ints and floats, not numpy's
        which: Any = infos[f"_{key}"]
        for row in range(count) if which.all() else np.flatnonzero(which):
            rows[row][key] = values[row]
    return rows
