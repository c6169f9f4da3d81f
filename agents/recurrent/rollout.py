"""Episodes played side by side, whatever one env or vector env there is. numpy only.

Shapes: n environments, E skip connections.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from ads_gym.agents.base import Game, Played
from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import InvalidValue
from ads_gym.topology import UNDECIDED, BoolArray, Int8Array


class Moment(NamedTuple):
    """What n environments show before a decision."""

    fresh: BoolArray  # bool[n]: whether this is an episode's first decision
    shown: Int8Array  # int8[n, E]: decisions at the last look, all -1 where fresh
    decisions: Int8Array  # int8[n, E]: and now
    legal: BoolArray  # bool[n]: whether KEEP is


class Lockstep:
    """Plays n environments at once, one connection a step.

    Args:
        env: `DenseNetSparsifyVectorEnv` or a `SyncVectorEnv`, wrapped or not, that resets at the next step (Gymnasium's
            default); or a single env.

    Attributes:
        game: what all of them play.
        cost_weight: theirs.
        steps: decisions so far, in all of them.
        gives_bits: whether an episode has begun with bits given.

    Raises:
        InvalidValue: another env, decision mode or observation, or another way of resetting.
    """

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
        envs = SyncVectorEnv([lambda: env]) if isinstance(env, gym.Env) else env
        plain = envs.unwrapped if isinstance(envs, VectorEnv) else envs
        if not isinstance(plain, SyncVectorEnv | DenseNetSparsifyVectorEnv):  # others cannot hand out what they play
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
        self._envs, self._one = envs, plain.get_attr("unwrapped")[0]  # a single env: what all of them share
        self.game = Game.of(self._one)
        self.cost_weight = float(self._one.cost_weight_value)
        self.steps = 0
        self.gives_bits = False
        count = envs.num_envs
        self._over = np.zeros(count, np.bool_)
        self._fresh = np.ones(count, np.bool_)
        self._shown = np.full((count, self.game.size), UNDECIDED, np.int8)
        self._given = self._shown.copy()
        self._scores = np.zeros(count)
        self._lengths = np.zeros(count, np.int64)
        self._begun = False

    def begin(self) -> None:
        """Resets all environments, if that was not done yet."""
        if not self._begun:
            self._begun = True
            self._look(*self._envs.reset())

    def play(self, choose: Callable[[Moment], BoolArray], episodes: int) -> list[Played]:
        """Plays until so many episodes are over, or a few more; `choose` gives bool[n], True = KEEP.

        An episode that is not over by then goes on with the next call. Those that begin with nothing given are all of
        one length, so none is left then.
        """
        self.begin()
        done: list[Played] = []
        while len(done) < episodes:
            if self._over.all():
                self._step(np.zeros(len(self._over), np.int64))
            keep = choose(Moment(self._fresh, self._shown, self._decisions, self._legal)) & ~self._over
            done += self._step(keep.astype(np.int64))
        return done

    def evaluate(self, masks: BoolArray) -> list[float]:
        """The returns of masks bool[k, E] without playing them; each counts as the decisions that playing it takes."""
        metrics = self._one.evaluate(masks)
        self.steps += masks.size
        return [float(self._one.score(each)) for each in metrics]

    def _step(self, actions: Any) -> list[Played]:
        """One step everywhere; in an environment whose episode was over it is the reset."""
        going = ~self._over
        self._fresh, self._shown = self._over, np.where(self._over[:, None], np.int8(UNDECIDED), self._decisions)
        observations, rewards, terminated, truncated, info = self._envs.step(actions)
        self._scores += rewards
        self._lengths += going
        self.steps += int(going.sum())
        self._look(observations, info)
        self._over = (terminated | truncated) & going
        return [self._finish(row) for row in np.flatnonzero(self._over).tolist()]

    def _look(self, observations: Any, info: dict[str, Any]) -> None:
        """Takes in what the environments show."""
        self._decisions = self.game.decisions(observations)
        self._legal = info["action_mask"][:, 1].astype(np.bool_)
        if self._fresh.any():
            self._given[self._fresh] = self._decisions[self._fresh]
            self.gives_bits = self.gives_bits or bool((self._given != UNDECIDED).any())

    def _finish(self, row: int) -> Played:
        """The episode that is over in environment `row`."""
        score, length = float(self._scores[row]), int(self._lengths[row])
        self._scores[row], self._lengths[row] = 0.0, 0
        return Played(self._given[row].copy(), self._decisions[row] == 1, score, length)
