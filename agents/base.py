"""The two kinds of agents: policies step an environment, optimisers choose whole masks.

**A policy** is a class with `learn`. It is built as `Policy(env, seed=seed, **options)`, then `learn(total_timesteps)`
is called, which plays until `BudgetExhausted` comes out of a step or a reset. Two attributes may say what it needs:
`num_envs = n` asks for a Gymnasium vector environment of n instead of a single environment, `observation = "flat"` for
that observation. With `save(path)` and a classmethod `load(path, env)`, the trained policy is kept in the run's folder.

**An optimiser** is a class with `ask` and `tell`. It is built as `Optimiser(problem, seed=seed, **options)`. Until the
budget is spent, a search calls `masks = optimiser.ask(optimiser.batch_size)` (1 where there is no such attribute), scores
the masks, and calls `optimiser.tell(masks, scores)`:

- `batch_size` is the optimiser's own choice and says nothing about the budget that is left. The search cuts the last
  batch, and then tells nothing. So a longer budget begins as a shorter one.
- Each mask that is asked for is an episode. One that was scored before is told again and costs no evaluation.
- An empty answer ends the run.
- A search refuses `decision` with an optimiser: no environment is stepped.

Any other callable is a function `play(env, seed, **options)` that steps the environment as it likes, until
`BudgetExhausted` comes out of it. It may have the attributes of a policy.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ads_gym.problem import Problem, Scored
from ads_gym.topology import BoolArray


class Agent(Protocol):
    """What a policy has at least; see the module's docstring."""

    def __init__(self, env: Any, *, seed: int) -> None:
        """Take the environment, the seed of everything that is drawn, and options as keywords."""

    def learn(self, total_timesteps: int) -> Any:
        """Play until `BudgetExhausted` is raised; `total_timesteps` is more steps than the budget has."""


class Optimiser(ABC):
    """Base class of optimisers. Any class with `ask` and `tell` is one; see the module's docstring.

    Args:
        problem: what is to be solved: topology, cost, limit, objective.
        seed: of everything that is drawn.
    """

    batch_size: int = 1

    def __init__(self, problem: Problem, *, seed: int = 0) -> None:
        self.problem = problem
        self.size = problem.topology.size
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def ask(self, n: int) -> BoolArray:
        """Return the masks to score next, bool [at most n, E], within the limit; none ends the run."""

    @abstractmethod
    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Take in the scores of the masks that were asked for last."""
