"""Taxi with a passenger who is seen once, and the agents that `benchmark_memory.py` compares on it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ads_gym.agents.recurrent_ppo.agent import RecurrentPPO

ENVS, STEPS = 128, 32  # environments, and steps of each in a rollout
SCALE = 20  # of rewards: a delivery pays 1
HIDDEN = 64
COMMON = {"n_steps": STEPS, "n_epochs": 8, "gamma": 0.95, "gae_lambda": 0.95}
UNKNOWN = 4  # in place of a passenger's location and of a destination

Log = list[tuple[bool, float]]  # a step: whether its action was legal; the episode's return where it ended, else NaN


class SeenOnce(gym.Wrapper):
    """Shows row and column of the taxi; passenger and destination in the first observation of an episode only.

    Observations are float32 [20]: row, column, where the passenger is and wants to go, 5 numbers each, one of them 1.

    Args:
        log: gets every step.
        shows_masks: whether `info["action_mask"]` stays.
    """

    def __init__(self, log: Log, shows_masks: bool = True) -> None:
        super().__init__(gym.make("Taxi-v4"))
        self.observation_space = spaces.Box(0, 1, (20,), np.float32)
        self.log, self.shows_masks, self.total = log, shows_masks, 0.0

    def legal(self) -> np.ndarray:
        """Actions that change the state, bool [6]."""
        return self.unwrapped.action_mask(self.unwrapped.s).astype(np.bool_)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """See `gymnasium.Env`."""
        state, info = self.env.reset(**options)
        self.total = 0.0
        return self._shown(*self.unwrapped.decode(state)), self._told(info)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        is_legal = bool(self.legal()[action])
        state, reward, terminated, truncated, info = self.env.step(action)
        self.total += reward
        self.log.append((is_legal, self.total if terminated or truncated else np.nan))
        seen = self._shown(*self.unwrapped.decode(state)[:2], UNKNOWN, UNKNOWN)
        return seen, reward / SCALE, terminated, truncated, self._told(info)

    def _shown(self, *numbers: int) -> np.ndarray:
        return np.eye(5, dtype=np.float32)[list(numbers)].ravel()

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        return info if self.shows_masks else {key: value for key, value in info.items() if key != "action_mask"}


def ours(log: Log, seed: int, options: dict[str, float], masks: bool = True, memory: bool = True) -> RecurrentPPO:
    """Our agent, or an ablation. Without memory its LSTM gives zeros, and actor and critic read the encoder alone."""
    envs = SyncVectorEnv([partial(SeenOnce, log, masks)] * ENVS, autoreset_mode=AutoresetMode.SAME_STEP)
    agent = RecurrentPPO(envs, seed=seed, hidden_size=HIDDEN, **COMMON, **options)
    for weight in () if memory else agent.policy.lstm.parameters():
        weight.requires_grad_(False).zero_()
    return agent


def contrib(log: Log, seed: int, options: dict[str, float], memory: bool = False) -> Any:
    """An agent of sb3-contrib: MaskablePPO, or with memory RecurrentPPO."""
    from sb3_contrib import MaskablePPO
    from sb3_contrib import RecurrentPPO as Recurrent
    from sb3_contrib.common.wrappers import ActionMasker
    from stable_baselines3.common.vec_env import DummyVecEnv

    if memory:  # small minibatches of sequences take minutes
        envs = DummyVecEnv([partial(SeenOnce, log)] * ENVS)
        network = {"lstm_hidden_size": HIDDEN}
        more = {"batch_size": ENVS * STEPS, "policy_kwargs": network, "seed": seed, "device": "cpu"}
        return Recurrent("MlpLstmPolicy", envs, **COMMON, **options, **more)
    envs = DummyVecEnv([lambda: ActionMasker(SeenOnce(log), SeenOnce.legal)] * ENVS)
    return MaskablePPO("MlpPolicy", envs, batch_size=256, seed=seed, device="cpu", **COMMON, **options)


MAKERS: dict[str, Callable[..., Any]] = {
    "recurrent-ppo": ours,
    "MaskablePPO": contrib,
    "RecurrentPPO": partial(contrib, memory=True),
    "recurrent-ppo, no masks": partial(ours, masks=False),
    "recurrent-ppo, no memory": partial(ours, memory=False),
}
AGENTS, ABLATIONS = list(MAKERS)[:3], list(MAKERS)[3:]
WITHOUT_MASKS = ("RecurrentPPO", "recurrent-ppo, no masks")


def evaluate(agent: Any, is_masked: bool, deterministic: bool, episodes: int) -> float:
    """Mean return of so many episodes, the same for all agents, with actions drawn or the most probable ones."""
    log: Log = []
    envs = [SeenOnce(log) for _ in range(episodes)]
    observations = np.stack([env.reset(seed=10_000 + number)[0] for number, env in enumerate(envs)])
    state, starts, over = None, np.ones(episodes, np.bool_), np.zeros(episodes, np.bool_)
    while not over.all():
        masks = {"action_masks": np.stack([env.legal() for env in envs])} if is_masked else {}
        actions, state = agent.predict(observations, state, starts, deterministic, **masks)
        for index in np.flatnonzero(~over):
            observations[index], _, terminated, truncated, _ = envs[index].step(int(actions[index]))
            over[index] = terminated or truncated
        starts = np.zeros(episodes, np.bool_)
    return float(np.nanmean([total for _, total in log]))
