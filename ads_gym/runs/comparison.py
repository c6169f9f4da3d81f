"""What the best network of a search is compared with: dense, chain, and what costs as much without a search."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np

from ads_gym.errors import InvalidValue
from ads_gym.evaluators.base import Weights
from ads_gym.nets.cost import CostTable, kept_within
from ads_gym.nets.features import Feature
from ads_gym.problem import Problem, Scored
from ads_gym.runs.result import Line
from ads_gym.topology import BoolArray

RANDOM_MASKS = 30


def compare(problem: Problem, best: BoolArray, seed: int) -> tuple[Line, ...]:
    """Return the lines of the closing table: dense, chain, of the best's cost random masks and `residual`, best.

    `residual` is what its agent finds without an evaluation (see `ads_gym.nets.residual`), where there is a network.

    Args:
        problem: whose evaluator counts no evaluations.
        best: bool [E].
        seed: of the random masks.
    """
    cost, macs = problem.cost, int(problem.cost.macs(best))
    groups: dict[str, Sequence[BoolArray]] = {
        "dense": [problem.topology.dense()],
        "chain": [problem.topology.chain()],
        "random": [*masks_that_cost(cost, macs, RANDOM_MASKS, np.random.default_rng(seed))],
        "residual": _residual(problem, macs),
        "best": [best],
    }
    masks = np.concatenate([np.stack(group) for group in groups.values() if len(group)])
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

    ends = accumulate((len(group) for group in groups.values()), initial=0)
    places = {name: slice(*ends) for name, ends in zip(groups, pairwise(ends), strict=True)}
    return tuple(line(name, rows) for name, rows in places.items() if len(groups[name]))


def _residual(problem: Problem, macs: int) -> list[BoolArray]:
    """The mask that elimination by residuals leaves within so many MACs; none, where there is no network."""
    if problem.network is None or problem.task is None:
        return []
    try:
        order = np.argsort(problem.feature(Feature.RESIDUAL))
    except InvalidValue as error:  # of a network whose activations are beyond arithmetic, or of too few images
        warnings.warn(f"the closing table has no line for residual: {error}", stacklevel=2)
        return []
    return [kept_within(order, problem.cost.connection_macs, macs - problem.cost.least_macs)]


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
