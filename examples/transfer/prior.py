"""The bar: what the best masks of other networks keep at a position, and nothing else."""

from collections.abc import Sequence

import numpy as np

from ads_gym.agents.base import Optimiser
from ads_gym.agents.pretrained.groups import Game
from ads_gym.evaluators.table import every_mask
from ads_gym.problem import Problem, Scored
from ads_gym.topology import BoolArray, Topology

ROOMS = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.1)  # relative cost that may be kept, in which best masks are looked for
BEST = 0.01  # share of the masks that count as best; three at least
WIDTHS = np.array([0.3, 0.2, 0.2, 0.1])  # of the kernel: block, destination, distance, room
DRAWN = 64  # masks at once
GIVE_UP = 20  # draws in a row without a new mask


def places(topology: Topology) -> np.ndarray:
    """Where connections are, float [E, 3]: block 0 (first) to 1, destination and distance as shares of the layers."""
    block, destination, source = topology.connections.T
    layers = np.array(topology.blocks)[block]
    return np.stack(
        [block / max(len(topology.blocks) - 1, 1), destination / layers, (destination - source) / layers], 1
    )


class Known:
    """What the best masks of games keep.

    Args:
        games: with the topology of each.
    """

    def __init__(self, games: Sequence[tuple[Game, Topology]]) -> None:
        kept, spent = [], []
        for game, topology in games:
            masks = every_mask(topology.size)
            cost, objectives = masks @ game.costs, game.objectives(masks, game.even)
            for room in ROOMS:
                fitting = np.flatnonzero(cost <= room + 1e-6)
                best = fitting[np.argsort(-objectives[fitting])[: max(3, int(BEST * len(fitting)))]]
                share = masks[best].mean(axis=0)
                kept.append(np.column_stack([places(topology), np.full(len(share), room), share]))
                spent.append((room, cost[best].mean()))
        self._kept, self._spent = np.concatenate(kept), np.array(spent)

    def chances(self, topology: Topology, room: float) -> np.ndarray:
        """How likely each connection is in a best mask, float [E]: a mean over near places and rooms."""
        here = np.column_stack([places(topology), np.full(topology.size, room)])
        distances = (((here[:, None] - self._kept[None, :, :4]) / WIDTHS) ** 2).sum(axis=2)
        weights = np.exp(-distances / 2) + 1e-12
        return (weights @ self._kept[:, 4]) / weights.sum(axis=1)

    def cost(self, room: float) -> float:
        """The relative cost that a best mask has, at a room."""
        weights = np.exp(-(((self._spent[:, 0] - room) / WIDTHS[3]) ** 2) / 2)
        return float(weights @ self._spent[:, 1] / weights.sum())


class PositionPrior(Optimiser):
    """Keep the likeliest connections up to the usual cost, then draw masks by how likely each connection is.

    Args:
        problem: what is searched.
        seed: of the draws.
        known: of other networks.
    """

    batch_size = 8

    def __init__(self, problem: Problem, *, seed: int = 0, known: Known) -> None:
        super().__init__(problem, seed=seed)
        costs = problem.cost.relative_costs
        room = problem.room / (problem.cost.dense_macs - problem.cost.least_macs)
        self._chances = known.chances(problem.topology, room)
        first, spent = np.zeros(len(costs), np.bool_), 0.0
        for place in np.argsort(-self._chances):
            if spent + costs[place] / 2 <= known.cost(room) and spent + costs[place] <= room:
                first[place], spent = True, spent + costs[place]
        self._waiting, self._known = [first], {first.tobytes()}

    def ask(self, n: int) -> BoolArray:
        """Return the next masks, bool [at most n, E], none twice."""
        idle = 0
        while len(self._waiting) < n and idle < GIVE_UP:
            drawn = self.rng.random((DRAWN, len(self._chances))) < self._chances
            new = {mask.tobytes(): mask for mask in (self.problem.project(mask, self.rng) for mask in drawn)}
            fresh = [mask for key, mask in new.items() if key not in self._known]
            self._known |= set(new)
            self._waiting += fresh
            idle = 0 if fresh else idle + 1
        asked, self._waiting = self._waiting[:n], self._waiting[n:]
        return np.stack(asked) if asked else np.empty((0, len(self._chances)), np.bool_)

    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Learn nothing."""
