"""Rollouts: episodes in a vector environment, and which decisions the agent made (others are given at reset).

Shapes: n environments, E skip connections. numpy only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import InvalidValue
from ads_gym.problem import Problem
from ads_gym.topology import UNDECIDED, BoolArray, Int8Array, IntArray


class Episode(NamedTuple):
    """A finished episode."""

    given: Int8Array  # int8 [E]: decisions that it began with, -1 free
    mask: BoolArray  # bool [E]
    objective: float  # its undiscounted return
    length: int  # steps


class StepInput(NamedTuple):
    """The state of n environments before an action."""

    is_first: BoolArray  # bool [n]: the first step of an episode
    previous: Int8Array  # int8 [n, E]: decisions one step earlier, all -1 at the first
    decisions: Int8Array  # int8 [n, E]: 1 kept, 0 dropped, -1 undecided
    keep_is_legal: BoolArray  # bool [n]


class Rollout:
    """Collects episodes in n environments at once, one connection a step.

    Args:
        env: a `DenseNetSparsifyVectorEnv` or a `SyncVectorEnv`, wrapped or not, with autoreset mode NEXT_STEP
            (Gymnasium's default); or a single environment.

    Attributes:
        problem: of all environments.
        steps: in all environments so far.
        has_given: whether any episode began with given decisions.

    Raises:
        InvalidValue: another environment, decision mode, observation or autoreset mode.
    """

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
        self._envs = envs = SyncVectorEnv([lambda: env]) if isinstance(env, gym.Env) else env
        self.problem = _problem(envs)
        self.steps = 0
        self.has_given = False
        count = envs.num_envs
        self._over = np.zeros(count, np.bool_)
        self._is_first = np.ones(count, np.bool_)
        self._previous = np.full((count, self.problem.topology.size), UNDECIDED, np.int8)
        self._given = self._previous.copy()
        self._returns = np.zeros(count)
        self._lengths = np.zeros(count, np.int64)
        self._has_begun = False

    def begin(self) -> None:
        """Reset all environments, unless that was done."""
        if not self._has_begun:
            self._has_begun = True
            self._read(self._envs.reset()[1])

    def collect(self, choose: Callable[[StepInput], BoolArray], count: int) -> list[Episode]:
        """Step until `count` episodes have ended, or a few more, and return them.

        An episode that has not ended goes on at the next call. (Without given decisions all are of one length.)

        Args:
            choose: the policy: returns bool [n], True to keep.
            count: of episodes.
        """
        self.begin()
        episodes: list[Episode] = []
        while len(episodes) < count:
            if self._over.all():
                self._step(np.zeros(len(self._over), np.int64))  # resets
            keep = choose(StepInput(self._is_first, self._previous, self._decisions, self._keep_is_legal))
            episodes += self._step((keep & ~self._over).astype(np.int64))
        return episodes

    def _step(self, actions: IntArray) -> list[Episode]:
        """Step all environments; the step after an episode's end resets its environment."""
        running = ~self._over
        self._is_first = self._over
        self._previous = np.where(self._over[:, None], np.int8(UNDECIDED), self._decisions)
        _, rewards, terminated, truncated, info = self._envs.step(actions)
        self._returns += rewards
        self._lengths += running
        self.steps += int(running.sum())
        self._read(info)
        self._over = (terminated | truncated) & running
        return [self._end(row) for row in np.flatnonzero(self._over).tolist()]

    def _read(self, info: dict[str, Any]) -> None:
        self._decisions = info["decisions"].astype(np.int8)
        self._keep_is_legal = info["action_mask"][:, 1].astype(np.bool_)
        if self._is_first.any():
            self._given[self._is_first] = self._decisions[self._is_first]
            self.has_given = self.has_given or bool((self._given != UNDECIDED).any())

    def _end(self, row: int) -> Episode:
        """Return the episode that has ended in environment `row`."""
        total, length = float(self._returns[row]), int(self._lengths[row])
        self._returns[row], self._lengths[row] = 0.0, 0
        return Episode(self._given[row].copy(), self._decisions[row] == 1, total, length)


def _problem(envs: Any) -> Problem:
    """Return the problem of a vector environment that the policy can step."""
    plain = envs.unwrapped if isinstance(envs, VectorEnv) else envs
    if not isinstance(plain, SyncVectorEnv | DenseNetSparsifyVectorEnv):  # others are in processes of their own
        raise InvalidValue(
            "this agent needs a single env, a vector env as gym.make_vec('ads_gym:DenseNetSparsify-v0') makes it, "
            f"or a SyncVectorEnv; got {type(plain).__name__}."
        )
    if envs.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
        raise InvalidValue("this agent needs a vector env with autoreset_mode NEXT_STEP, Gymnasium's default.")
    if not isinstance(envs.single_action_space, spaces.Discrete):
        raise InvalidValue("this agent decides one connection after another: use decision 'connection'.")
    if len(envs.single_observation_space.shape or ()) != 3:
        raise InvalidValue("this agent reads adjacency matrices: use observation 'matrix'.")
    problem: Problem = plain.get_attr("unwrapped")[0].problem
    return problem


def first_undecided(decisions: Int8Array) -> IntArray:
    """Return int64 [...]: index of the first -1 in decisions [..., E]; 0 where there is none."""
    return np.asarray((decisions == UNDECIDED).argmax(axis=-1))


def keep_is_legal(problem: Problem, decisions: Int8Array) -> BoolArray:
    """Return bool [...]: whether the first undecided connection of decisions [..., E] fits the MACs limit."""
    macs = problem.cost.connection_macs
    return np.asarray((decisions == 1) @ macs + macs[first_undecided(decisions)] <= problem.room)


def choices(problem: Problem, given: Int8Array, masks: BoolArray) -> BoolArray:
    """Return bool [..., E]: decisions with two legal actions, in episodes from `given` (-1 free) to masks [..., E]."""
    macs, free = problem.cost.connection_macs, given == UNDECIDED
    kept = np.where(free & masks, macs, 0)
    before = (given == 1).astype(np.int64) @ macs
    return np.asarray(free & (before[..., None] + np.cumsum(kept, axis=-1) - kept + macs <= problem.room))
