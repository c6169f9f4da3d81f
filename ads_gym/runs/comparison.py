"""The networks that the best one of a search is compared with: dense, chain, and random masks that cost as much."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ads_gym.evaluators.base import Weights
from ads_gym.nets.cost import CostTable
from ads_gym.problem import Problem, Scored
from ads_gym.runs.result import Line
from ads_gym.topology import BoolArray

RANDOM_MASKS = 30


def compare(problem: Problem, best: BoolArray, seed: int) -> tuple[Line, ...]:
    """Return the lines of the closing table: dense, chain, random masks of the best's relative cost, best.

    Args:
        problem: whose evaluator counts no evaluations.
        best: bool [E].
        seed: of the random masks.
    """
    cost = problem.cost
    random = masks_that_cost(cost, int(cost.macs(best)), RANDOM_MASKS, np.random.default_rng(seed))
    masks = np.stack([problem.topology.dense(), problem.topology.chain(), best, *random])
    metrics = problem.evaluator.evaluate_checked(masks)  # the dense network may be above the limit
    scores = [Scored(each, problem.objective(each)) for each in metrics]
    accuracies = {
        weights: [each.accuracy for each in evaluator.evaluate_checked(masks)]
        for weights, evaluator in problem.evaluators.items()
    }

    def line(name: str, rows: slice) -> Line:
        means = {weights: float(np.mean(values[rows])) for weights, values in accuracies.items()}
        return replace(
            _line(name, scores[rows]),
            inherited_accuracy=means.get(Weights.INHERITED),
            repaired_accuracy=means.get(Weights.REPAIRED),
        )

    places = {"dense": slice(0, 1), "chain": slice(1, 2), "random": slice(3, None), "best": slice(2, 3)}
    return tuple(line(name, rows) for name, rows in places.items())


def masks_that_cost(cost: CostTable, macs: int, count: int, rng: np.random.Generator) -> BoolArray:
    """Draw random masks bool [count, E] of at most so many MACs, and nearly as many.

    Each keeps skip connections in a random order, passing over those that no longer fit.
    """
    masks = np.zeros((count, cost.topology.size), np.bool_)
    for mask in masks:
        left = macs - cost.least_macs
        for connection in rng.permutation(cost.topology.size):
            if cost.connection_macs[connection] <= left:
                mask[connection] = True
                left -= cost.connection_macs[connection]
    return masks


def _line(name: str, scores: Sequence[Scored]) -> Line:
    """Means over some networks."""

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    objectives, metrics = [score.objective for score in scores], [score.metrics for score in scores]
    return Line(
        name,
        objective=mean(objectives),
        accuracy=mean(m.accuracy for m in metrics),
        soft_accuracy=mean(m.soft_accuracy for m in metrics),
        loss=mean(m.loss for m in metrics),
        relative_macs=mean(m.relative_macs for m in metrics),
        relative_cost=mean(m.relative_cost for m in metrics),
        parameters=mean(m.parameters for m in metrics),
        masks=len(metrics),
        objective_sd=float(np.std(objectives)),
    )
