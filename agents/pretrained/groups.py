"""What a policy is trained on: groups of episodes on one supernet with one limit, and what each is worth in its group.

Shapes as in `rows`; here n episodes of one group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Self
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray

from ads_gym.agents.base import Floats
from ads_gym.agents.pretrained.rows import Inputs, Rows, known_ranks, make_rows
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.base import Weights
from ads_gym.pools.definition import Pool, Role
from ads_gym.pools.making import read_member
from ads_gym.problem import make_problem
from ads_gym.tasks.supernet import SupernetTask
from ads_gym.topology import BoolArray

MIN_STD = 1e-3  # of the objectives of a group: smaller differences are scaled up no further


@dataclass(frozen=True, eq=False)
class Game:
    """A supernet whose every architecture was scored: an episode is a lookup."""

    name: str
    ranks: NDArray[np.float32]  # [E, F], as the policy reads them
    costs: Floats  # [E], relative
    rewards: Floats  # [2^E], soft accuracy; a mask's row is the binary number whose lowest bit is its first

    @classmethod
    def of(cls, task: SupernetTask, weights: Weights, inputs: Inputs = Inputs.ALL) -> Self:
        """The game of a task.

        Args:
            task: with a table.
            weights: with which architectures were scored.
            inputs: what the policy reads.

        Raises:
            InvalidValue: no table of such weights.
        """
        if weights not in task.tabulated:
            raise InvalidValue(
                f"task {task.name!r} has no table of all architectures with {weights} weights: make it with "
                "ads-gym tabulate."
            )
        problem = make_problem(task, weights=weights)
        found = known_ranks(problem.features(), inputs, crc32(task.name.encode()))
        rewards = task.tabulated[weights]["soft_accuracy"].astype(np.float64)
        return cls(task.name, found, problem.cost.relative_costs, rewards)

    @classmethod
    def of_pool(
        cls,
        pool: Pool,
        folder: Path,
        role: Role,
        weights: Sequence[Weights],
        inputs: Inputs = Inputs.ALL,
    ) -> list[Self]:
        """The games of the supernets of a role, one for each kind of weights.

        Args:
            pool: the definition.
            folder: where its supernets were made.
            role: which of them.
            weights, inputs: see `of`.

        Raises:
            NotFound, InvalidValue: a supernet that was not made, or has no table of such weights.
        """
        tasks = [read_member(member, folder) for member in pool.of(role)]
        return [cls.of(task, each, inputs) for task in tasks for each in weights]

    @property
    def even(self) -> float:
        """The cost weight at which the dense network and the chain have the same objective."""
        return float(self.rewards[-1] - self.rewards[0])

    def rows(self, room: float, cost_weight: float) -> Rows:
        """What a policy reads; see `make_rows`."""
        return make_rows(self.ranks, self.costs, room, cost_weight)

    def objectives(self, masks: BoolArray, cost_weight: float) -> Floats:
        """The objectives [n] of masks bool [n, E]."""
        return np.asarray(self.rewards[masks @ (1 << np.arange(len(self.costs)))] - cost_weight * (masks @ self.costs))


def advantages(objectives: Floats, best_of: int) -> Floats:
    """What each episode of a group is worth to the best of `best_of`, in standard deviations of the objectives [n].

    With `best_of` 1, its objective less the mean. Else by how much the expected best of so many episodes, drawn from
    the group, is raised by it, less the mean of that, times n / `best_of`: episodes that are good now and then count,
    mediocre ones do not. (C. Walder and D. Karkhanis, "Pass@K Policy Optimization", 2025.)

    Args:
        objectives: [n], n at least `best_of`.
        best_of: how many of a policy's masks will be evaluated.
    """
    count = len(objectives)
    worth = objectives if best_of == 1 else _worth(objectives, best_of) * (count / best_of)
    return np.asarray((worth - worth.mean()) / max(float(objectives.std()), MIN_STD))


def _worth(objectives: Floats, best_of: int) -> Floats:
    """Sum over all subsets of `best_of` episodes with this one, of the best objective in it, / number of subsets."""
    order, count = np.argsort(objectives, kind="stable"), len(objectives)
    ascending, subsets = objectives[order], comb(count, best_of)
    as_best = np.array([comb(place, best_of - 1) for place in range(count)]) / subsets
    below = np.array([comb(place - 1, best_of - 2) if place else 0 for place in range(count)]) / subsets
    of_others = below * ascending  # where this one is in the subset, and another is its best
    later = np.append(np.cumsum(of_others[::-1])[::-1][1:], 0.0)
    worth = np.empty(count)
    worth[order] = as_best * ascending + later
    return worth


@dataclass(frozen=True)
class Group:
    """Episodes of one game under the same conditions."""

    game: Game
    room: float  # relative cost that may be kept; 1: no limit
    cost_weight: float
    best_of: int  # 1: each counts; more: the best of so many does

    def rows(self, noise: float, generator: torch.Generator) -> Rows:
        """What a policy reads, n = 1.

        Args:
            noise: standard deviation of what is added to ranks.
            generator: draws it.
        """
        rows = self.game.rows(self.room, self.cost_weight)
        drawn = torch.randn(rows.ranks.shape, generator=generator)
        return rows._replace(ranks=rows.ranks + noise * drawn)
