"""How tests of the environment make one and play it."""

import gymnasium as gym

import ads_gym  # noqa: F401 - registers the environment


def make(task="planted-20", **settings):
    return gym.make("DenseNetSparsify-v0", task=task, **settings)


def play(env, seed):
    """One episode of actions drawn from `seed`: what reset gave, then what each step gave."""
    env.action_space.seed(seed)
    record = [env.reset(seed=seed)]
    while len(record) == 1 or not record[-1][2]:
        record.append(env.step(env.action_space.sample()))
    return record
