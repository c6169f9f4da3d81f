"""Environments that need memory, and fail at an action that is not legal."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]
SMALL = {"hidden_size": 16, "n_steps": 32}


class Told(gym.Env):
    """Shows a number in its first observation, then nothing; the action of the last step should be that number.

    Gives masks in `info` only. Two of the four actions are legal at each step, the right one at the end among them;
    another one is an error.
    """

    def __init__(self, length=4, parts=None, cut=None):
        self.observation_space = spaces.Box(0, 1, (5,), np.float32)
        self.action_space = spaces.Discrete(4) if parts is None else spaces.MultiDiscrete([4] * parts)
        self.length, self.cut = length, cut

    def legal(self):
        legal = np.zeros(4, np.bool_)
        legal[[self.number, (self.number + 1 + self.steps % 3) % 4]] = True
        count = 1 if isinstance(self.action_space, spaces.Discrete) else len(self.action_space.nvec)
        return np.tile(legal, count)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.steps = int(self.np_random.integers(4)), 0
        return self._see(), {"action_mask": self.legal().astype(np.int8)}

    def step(self, action):
        chosen = np.atleast_1d(action)
        assert all(self.legal()[index * 4 + each] for index, each in enumerate(chosen)), "not legal"
        self.steps += 1
        over = self.steps == self.length
        reward = float(np.mean(chosen == self.number)) if over else 0.0
        info = {"action_mask": self.legal().astype(np.int8)}
        return self._see(), reward, over, not over and self.steps == self.cut, info

    def _see(self):
        seen = np.zeros(5, np.float32)
        seen[self.number if self.steps == 0 else 4] = 1
        return seen


class Recall(Told):
    """Gives masks by a method."""

    def action_masks(self):
        return self.legal()


def recalls(count=8, mode=AutoresetMode.SAME_STEP, kind=SyncVectorEnv, env=Recall, **keywords):
    return kind([lambda: env(**keywords)] * count, autoreset_mode=mode)
