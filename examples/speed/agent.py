"""Decisions per second of the recurrent agent, learning included, against sb3-contrib's RecurrentPPO.

Both play whole episodes of a planted task side by side and learn from each batch of them; no evaluation counts.
"""

import gymnasium as gym
import torch
from sb3_contrib import RecurrentPPO
from speed.timing import Row, interleaved
from stable_baselines3.common.env_util import make_vec_env

import ads_gym  # noqa: F401 - registers the environments
from ads_gym.agents.recurrent.agent import Recurrent


def measure(small: bool) -> list[Row]:
    """Rows: against RecurrentPPO with its default network and epochs, and with our LSTM's size and number of epochs.

    An epoch of it is one batch, like ours: its default, batches of 128, takes it many times as long.
    """
    count, task, repeats, batches = (4, "planted-20", 2, 1) if small else (64, "planted-45", 5, 4)
    ours = Recurrent(gym.make_vec("DenseNetSparsify-v0", count, task=task), seed=0, batch_size=count, warmup=0)
    size, updates = ours.config.hidden_size, ours.config.n_epochs
    envs = make_vec_env("DenseNetSparsifyFlat-v0", n_envs=count, env_kwargs={"task": task})
    decisions = envs.get_attr("topology")[0].size * count  # of one episode in each
    game = {"n_steps": decisions // count, "batch_size": decisions, "gamma": 1.0, "gae_lambda": 1.0, "seed": 0}
    default = RecurrentPPO("MlpLstmPolicy", envs, device="cpu", **game)
    lean = {"policy_kwargs": {"lstm_hidden_size": size}, "n_epochs": updates}
    equal = RecurrentPPO("MlpLstmPolicy", envs, device="cpu", **game, **lean)
    seconds = interleaved(
        {
            "ours": lambda: ours.learn(batches * decisions),
            "default": lambda: default.learn(decisions),
            "equal": lambda: equal.learn(decisions),
        },
        repeats,
    )
    what = f"recurrent agent, {count} environments, {task}, learning included, {torch.get_num_threads()} threads"
    works = (batches * decisions, decisions, "decisions")
    rivals = {
        "default": f"RecurrentPPO, its defaults: LSTMs of 256, {default.n_epochs} epochs",
        "equal": f"RecurrentPPO, as ours: LSTMs of {size}, {updates} epochs",
    }
    return [Row(what, rival, seconds["ours"], seconds[name], *works) for name, rival in rivals.items()]
