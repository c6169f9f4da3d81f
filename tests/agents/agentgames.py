"""How tests of agents make games, and end them after so many evaluations."""

import contextlib

import gymnasium as gym
import numpy as np

import ads_gym  # noqa: F401 - registers the environment
from ads_gym.architecture import DenseNetConfig
from ads_gym.errors import BudgetExhausted
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.runs.history import History
from ads_gym.runs.recorder import BudgetedEnv, BudgetedVectorEnv, RecordedEvaluator


class Given(gym.Wrapper):
    """Draws the first three bits of each episode."""

    def __init__(self, env, seed):
        super().__init__(env)
        self._rng = np.random.default_rng(seed)

    def reset(self, *, seed=None, options=None):
        decided = np.full(self.unwrapped.topology.size, -1, np.int8)
        decided[:3] = self._rng.integers(0, 2, 3)
        return self.env.reset(seed=seed, options={"decided": decided})


def planted(*blocks, kind="linear", seed=0):
    return PlantedEvaluator(DenseNetConfig(blocks), "layers", kind, seed)


def recorded(folder, evaluator, budget):
    """A record in a folder of its own, as a search keeps one."""
    folder.mkdir(exist_ok=True)
    history = History(folder / "history.csv", (evaluator.topology.size + 7) // 8)
    return RecordedEvaluator(evaluator, history, budget, lambda metrics: metrics.accuracy)


def single(record, **settings):
    return BudgetedEnv(gym.make("DenseNetSparsify-v0", evaluator=record, **settings), record)


def side_by_side(record, count=8, **settings):
    """As a search gives it to an agent that asks for `num_envs`."""
    return BudgetedVectorEnv(gym.make_vec("DenseNetSparsify-v0", count, evaluator=record, **settings), record)


def given_bits(evaluator, count=8):
    """A vector env whose episodes begin with three bits drawn at random."""
    envs = [lambda i=i: Given(gym.make("DenseNetSparsify-v0", evaluator=evaluator), i) for i in range(count)]
    return gym.vector.SyncVectorEnv(envs)


def masks_of(record):
    """The masks that were paid for, in order."""
    return [row.mask for row in record.history.rows]


def run(agent, env, **options):
    """Builds an agent, and lets it play until the budget ends."""
    made = agent(env, **options)
    with contextlib.suppress(BudgetExhausted):
        made.learn(10**9)
    return made
