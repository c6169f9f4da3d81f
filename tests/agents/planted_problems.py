"""How tests of agents make planted problems and environments, and end a search after so many evaluations."""

import contextlib
from dataclasses import replace

import gymnasium as gym
import numpy as np

import ads_gym  # noqa: F401 - registers the environment
from ads_gym.architecture import DenseNetConfig
from ads_gym.errors import BudgetExhausted
from ads_gym.evaluators.base import EvaluatorWrapper
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.problem import make_problem


class Given(gym.Wrapper):
    """Draws the first three decisions of each episode."""

    def __init__(self, env, seed):
        super().__init__(env)
        self._rng = np.random.default_rng(seed)

    def reset(self, *, seed=None, options=None):
        decided = np.full(self.unwrapped.topology.size, -1, np.int8)
        decided[:3] = self._rng.integers(0, 2, 3)
        return self.env.reset(seed=seed, options={"decided": decided})


class Counted(EvaluatorWrapper):
    """Ends a search as a run does: after so many evaluations, or 20 times as many episodes."""

    def __init__(self, inner, budget):
        super().__init__(inner)
        self.budget, self.episodes, self.history = budget, 0, {}

    def evaluate_checked(self, masks):
        metrics = self.inner.evaluate_checked(masks)
        for mask, each in zip(masks, metrics, strict=True):
            is_new = mask.tobytes() not in self.history
            if self.episodes >= 20 * self.budget or (is_new and len(self.history) >= self.budget):
                raise BudgetExhausted
            self.episodes += 1
            self.history[mask.tobytes()] = each
        return metrics

    @property
    def masks(self):
        """Those that were paid for, in order."""
        return [np.frombuffer(key, np.bool_) for key in self.history]

    @property
    def metrics(self):
        return list(self.history.values())


def planted(*blocks, kind="linear", seed=0):
    return PlantedEvaluator(DenseNetConfig(blocks), "layers", kind, seed)


def problem_of(evaluator, budget=10**6, **settings):
    """A problem, and the count of what is paid for."""
    counted = Counted(evaluator, budget)
    problem = make_problem(**{"task": "planted-45", "evaluator": evaluator, **settings})
    return replace(problem, evaluator=counted), counted


def single(problem, **keywords):
    return gym.make("DenseNetSparsify-v0", problem=problem, **keywords)


def vector(problem, count=8, **keywords):
    return gym.make_vec("DenseNetSparsify-v0", count, problem=problem, **keywords)


def given_decisions(evaluator, count=8):
    """A vector environment whose episodes begin with three decisions drawn at random."""
    envs = [lambda i=i: Given(gym.make("DenseNetSparsify-v0", evaluator=evaluator), i) for i in range(count)]
    return gym.vector.SyncVectorEnv(envs)


def optimise(optimiser, problem):
    """As a search does it."""
    with contextlib.suppress(BudgetExhausted):
        while len(masks := optimiser.ask(optimiser.batch_size)):
            optimiser.tell(masks, problem.score(masks))
    return optimiser


def learn(policy):
    """As a search does it."""
    with contextlib.suppress(BudgetExhausted):
        policy.learn(10**9)
    return policy


def history(agent, evaluator, budget=10**6, *, seed=0, options=None, **settings):
    """The masks that an agent paid for, as bytes."""
    problem, counted = problem_of(evaluator, budget, **settings)
    if hasattr(agent, "ask"):
        optimise(agent(problem, seed=seed, **(options or {})), problem)
    else:
        learn(agent(vector(problem), seed=seed, **(options or {})))
    return list(counted.history)
