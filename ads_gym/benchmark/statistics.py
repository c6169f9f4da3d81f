"""What counts when agents are compared, and how sure it is. numpy alone.

A run's score is (best objective - mean of random masks) / (best known - that mean), on its own supernet: 0 is what
random masks give on average, 1 is the best that anybody found. Scores of an agent are a table of supernets by seeds;
claims are about supernets that were not seen, so supernets are drawn first and seeds within them. (R. Agarwal et al.,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, whose interquartile mean and
probability of improvement these are; they draw runs within each task.)

Shapes: S supernets, K seeds of each, R resamples, A agents.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ads_gym.errors import InvalidValue

Floats = NDArray[np.float64]

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST_SUPERNETS = 5  # with fewer, intervals are too narrow: of three, 78 % of those of 95 % hold what they should
TRIM = 0.25  # of the runs, at either end
LEFT = 0.01  # of the way from random to the best known: who has no more left has arrived


class Interval(NamedTuple):
    """A number, and where it would be in 95 of 100 repetitions with other supernets and seeds."""

    value: float
    low: float
    high: float


def scores(objectives: Floats, random_mean: Floats, best_known: Floats) -> Floats:
    """Return the scores float [S, K] of the best objectives [S, K] of runs.

    Args:
        objectives: of each run's best.
        random_mean: [S], of random masks.
        best_known: [S], of all that anybody found on that supernet.

    Raises:
        InvalidValue: a best that is no better than random.
    """
    ranges = best_known - random_mean
    if not (ranges > 0).all():
        raise InvalidValue("the best known network of a supernet is no better than random ones: nothing can be ranked.")
    return np.asarray((objectives - random_mean[:, None]) / ranges[:, None])


def interquartile_mean(values: Floats) -> Floats:
    """Mean of the middle half along the last axis; of a number of values that four does not divide, its nearest."""
    ordered = np.sort(values, axis=-1)
    cut = math.floor(TRIM * ordered.shape[-1])
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def interval(
    table: Floats, statistic: Callable[[Floats], Floats] = interquartile_mean, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return a statistic of runs with its bootstrap interval: supernets are drawn first, then seeds within each.

    With one supernet, seeds alone are drawn, and the claim is of that network.

    Args:
        table: float [S, K], of runs.
        statistic: of values [..., n], over the last axis.
        seed: of the draws.
        resamples: R.

    Raises:
        InvalidValue: two to four supernets.
    """
    supernets, seeds = table.shape
    if 1 < supernets < FEWEST_SUPERNETS:
        raise InvalidValue(
            f"of {supernets} supernets no interval can be told: use {FEWEST_SUPERNETS} or more, or one, of which alone "
            "the claim is then."
        )
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, supernets, (resamples, supernets))
    within = rng.integers(0, seeds, (resamples, supernets, seeds))
    values = statistic(table[drawn[:, :, None], within].reshape(resamples, -1))
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(statistic(table.reshape(1, -1))[0]), float(low), float(high))


def spent_until(objectives: Floats, spent: NDArray[np.int64], target: float) -> float:
    """Evaluations that were spent when a run reached a target; infinite if it never did.

    Args:
        objectives: [n], of its evaluations in their order.
        spent: [n], of the budget after each, what was charged included.
        target: an objective.
    """
    reached = np.flatnonzero(objectives >= target)
    return float(spent[reached[0]]) if len(reached) else math.inf


def arrival(random_mean: float, best_known: float) -> float:
    """The objective at which 1 % of the way from random to the best known is left."""
    return best_known - LEFT * (best_known - random_mean)


def probability_of_improvement(one: Floats, other: Floats) -> float:
    """How often a run of one agent is better than one of the other on the same supernet; a tie counts half.

    Args:
        one, other: scores [S, K], of the same supernets.
    """
    differences = one[:, :, None] - other[:, None, :]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())


class Comparison(NamedTuple):
    """Two agents on the same supernets."""

    one: str
    other: str
    probability: float  # that a run of the first is better
    p_value: float  # after Holm's correction for all pairs; of no difference
    is_tie: bool  # whether it is too large to tell them apart


def compare(tables: Mapping[str, Floats]) -> list[Comparison]:
    """Compare all pairs of agents: a permutation test of the signs of their differences, supernet by supernet.

    Means over seeds are compared, so that a supernet counts once. With one supernet there is nothing to permute but
    seeds, and the claim is of that network.

    Args:
        tables: scores [S, K] by agent, of the same supernets and seeds.
    """
    pairs = list(combinations(tables, 2))
    p_values = holm([sign_test(_paired(tables[one] - tables[other])) for one, other in pairs])
    return [
        Comparison(one, other, probability_of_improvement(tables[one], tables[other]), p, p > 1 - CONFIDENCE)
        for (one, other), p in zip(pairs, p_values, strict=True)
    ]


def _paired(differences: Floats) -> Floats:
    return np.asarray(differences[0] if len(differences) == 1 else differences.mean(axis=1))


def sign_test(differences: Floats, seed: int = 0) -> float:
    """How often differences [n] with random signs have a mean as far from 0; of all signs up to n = 14, else drawn."""
    count = len(differences)
    if count <= 14:
        signs = 1 - 2 * ((np.arange(1 << count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = 1 - 2 * np.random.default_rng(seed).integers(0, 2, (RESAMPLES, count))
        signs[0] = 1
    means = np.abs(signs @ differences)
    return float((means >= means[0] - 1e-12 * max(1.0, means[0])).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction of p-values of several tests (S. Holm, 1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(order), 0.0
    for rank, place in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def hypervolume(costs: Floats, values: Floats, worst_cost: float = 1.0, worst_value: float = 0.0) -> float:
    """The area between a front and the worst corner: of points of low cost and high value.

    Args:
        costs, values: [n], of points; those beyond the corner count nothing.
        worst_cost, worst_value: the corner.
    """
    order = np.lexsort((-values, costs))
    area, best = 0.0, worst_value
    for cost, value in zip(costs[order].tolist(), values[order].tolist(), strict=True):
        if cost < worst_cost and value > best:
            area += (worst_cost - cost) * (value - best)
            best = value
    return area
