"""Steps per second of the vector environment, and of a single one. No evaluation counts: the evaluator is planted.

Every contestant plays whole episodes of random actions; an environment's reset is a step, for all of them alike.
"""

import gymnasium as gym
import numpy as np
from speed.timing import Row, interleaved

import ads_gym  # noqa: F401 - registers the environment

ENVIRONMENT = "ads_gym:DenseNetSparsify-v0"


def measure(small: bool) -> list[Row]:
    """Rows: ours against `SyncVectorEnv` and `AsyncVectorEnv` of the same single one; that one against CartPole."""
    count, repeats = (4, 2) if small else (64, 5)
    return [*many(count, repeats), single(repeats)]


def many(count: int, repeats: int) -> list[Row]:
    """`count` environments of planted-45, decision "connection"."""
    game = {"id": ENVIRONMENT, "num_envs": count, "task": "planted-45"}
    ours = gym.make_vec(**game)
    sync = gym.make_vec(**game, vectorization_mode="sync")
    spawn = {"context": "spawn"}  # a forked process hangs after torch used its threads
    parallel = gym.make_vec(**game, vectorization_mode="async", vector_kwargs=spawn)
    episode = ours.topology.size + 1  # steps, with the reset
    drawn = np.random.default_rng(0).integers(0, 2, (10 * episode, count))
    actions = {"ours": drawn, "sync": drawn[: 2 * episode], "async": drawn[:episode]}
    envs = {"ours": ours, "sync": sync, "async": parallel}

    def play(name: str) -> None:
        envs[name].reset(seed=0)
        for row in actions[name]:
            envs[name].step(row)

    seconds = interleaved({name: lambda name=name: play(name) for name in envs}, repeats)
    for env in envs.values():
        env.close()
    what = f"vector environment, {count} environments, planted-45"
    return [
        Row(what, rival, seconds["ours"], seconds[name], actions["ours"].size, actions[name].size, "steps")
        for name, rival in [("sync", "SyncVectorEnv of the same"), ("async", "AsyncVectorEnv of the same, spawned")]
    ]


def single(repeats: int) -> Row:
    """One environment of planted-198 and one CartPole-v1, through the same wrappers (a ratio of 1/3 is the aim)."""
    made = {"disable_env_checker": True, "max_episode_steps": 500}  # so both in OrderEnforcing and TimeLimit
    envs = {
        "ours": gym.make(ENVIRONMENT, task="planted-198", **made),
        "CartPole": gym.make("CartPole-v1", **made),
    }
    steps = 10 * 198

    def play(env: gym.Env) -> None:
        env.reset(seed=0)
        for step in range(steps):
            _, _, terminated, truncated, _ = env.step(step % 2)
            if terminated or truncated:
                env.reset()

    seconds = interleaved({name: lambda env=env: play(env) for name, env in envs.items()}, repeats)
    what = "a single environment, planted-198, in OrderEnforcing and TimeLimit"
    rival = "CartPole-v1 in the same wrappers (wanted: at least 0.33)"
    return Row(what, rival, seconds["ours"], seconds["CartPole"], steps, steps, "steps")
