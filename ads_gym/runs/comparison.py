"""What the best network of a search is to be compared with: dense, chain, and random masks that cost as much."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ads_gym.evaluators.base import Evaluator, Metrics
from ads_gym.nets.cost import CostTable
from ads_gym.runs.result import Line
from ads_gym.topology import BoolArray

RANDOM_MASKS = 30


def compare(
    evaluator: Evaluator, cost: CostTable, score: Callable[[Metrics], float], best: BoolArray, seed: int
) -> tuple[Line, ...]:
    """The lines of the closing table: dense, chain, random masks of the best's relative cost, best.

    Args:
        evaluator: what scores masks; what it is asked here counts as no evaluation of the run.
        cost: of its masks.
        score: the reward of metrics.
        best: bool[E].
        seed: of the random masks.
    """
    random = masks_that_cost(cost, int(cost.macs(best)), RANDOM_MASKS, np.random.default_rng(seed))
    topology = cost.topology
    dense, chain, found, *others = evaluator.evaluate(np.stack([topology.dense(), topology.chain(), best, *random]))
    return (
        _line("dense", [dense], score),
        _line("chain", [chain], score),
        _line("random", others, score),
        _line("best", [found], score),
    )


def masks_that_cost(cost: CostTable, macs: int, count: int, rng: np.random.Generator) -> BoolArray:
    """bool[count, E]: random masks of at most so many MACs, and nearly as many.

    Each keeps skip connections in a random order, passing over those that no longer fit.
    """
    masks = np.zeros((count, cost.topology.size), np.bool_)
    for mask in masks:
        room = macs - cost.least_macs
        for connection in rng.permutation(cost.topology.size):
            if cost.connection_macs[connection] <= room:
                mask[connection] = True
                room -= cost.connection_macs[connection]
    return masks


def _line(name: str, metrics: Sequence[Metrics], score: Callable[[Metrics], float]) -> Line:
    """Means over some networks."""

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    rewards = [score(m) for m in metrics]
    return Line(
        name,
        reward=mean(rewards),
        accuracy=mean(m.accuracy for m in metrics),
        soft_accuracy=mean(m.soft_accuracy for m in metrics),
        loss=mean(m.loss for m in metrics),
        relative_macs=mean(m.relative_macs for m in metrics),
        relative_cost=mean(m.relative_cost for m in metrics),
        parameters=mean(m.parameters for m in metrics),
        masks=len(metrics),
        reward_sd=float(np.std(rewards)),
    )
