"""What counts when agents are compared, and how sure it is. numpy alone.

A run's score is (best objective - mean of random masks) / (best known - that mean), on its own supernet: 0 is what
random masks give on average, 1 is the best that anybody found. Scores of an agent are a table of supernets by seeds;
claims are about supernets that were not seen, so supernets are drawn first and seeds within them. (R. Agarwal et al.,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, whose interquartile mean and
probability of improvement these are; they draw runs within each task.)

Shapes: S supernets, K seeds of each, R resamples, A agents.
"""

import json
import math
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ads_gym.errors import InvalidValue

Floats = NDArray[np.float64]

# What counts. It is frozen: who changes a line gives it another version, and results say by which they are told.
DEFINITION: Mapping[str, Any] = json.loads(Path(__file__).with_name("definition.json").read_text("utf-8"))
RANDOM_MASKS: int = DEFINITION["random_masks"]  # of whose objectives the mean is the lower end of every score
RESAMPLES: int = DEFINITION["resamples"]
CONFIDENCE: float = DEFINITION["confidence"]
FEWEST: int = DEFINITION["fewest"]  # supernets, or seeds of one: of three, 78 % of the intervals hold what they should
TRIM: float = DEFINITION["trim"]  # of the runs, at either end
LEFT: float = DEFINITION["left"]  # of the way from random to the best known: who has no more left has arrived


class Interval(NamedTuple):
    """A number, and between what it truly is, with a confidence of 95 % by name.

    Simulated, ten supernets by two seeds hold it in 95 of 100 cases, six by two in 94, six by one in 91, and six seeds
    of one supernet in 89.
    """

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
    """Mean of the middle half along the last axis; where four does not divide their number, of more than half."""
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
        InvalidValue: fewer than six supernets, or of one fewer than six seeds.
    """
    supernets, seeds = table.shape
    check_enough(supernets, seeds)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, supernets, (resamples, supernets))
    within = rng.integers(0, seeds, (resamples, supernets, seeds))
    values = statistic(table[drawn[:, :, None], within].reshape(resamples, -1))
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(statistic(table.reshape(1, -1))[0]), float(low), float(high))


def check_enough(supernets: int, seeds: int) -> None:
    """Refuse what says too little of other supernets, or of one supernet's other seeds.

    Raises:
        InvalidValue: fewer than six.
    """
    if max(supernets, seeds if supernets == 1 else 0) < FEWEST:
        raise InvalidValue(
            f"of {supernets} supernet{'' if supernets == 1 else 's'} and {seeds} seed{'' if seeds == 1 else 's'} no "
            f"interval can be told: use {FEWEST} supernets or more, or one with {FEWEST} seeds or more, of which alone "
            "the claim is then."
        )


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
    difference: float  # of mean scores: above 0 where the first is better
    probability: float  # that a run of the first is better
    p_value: float  # of no difference, all pairs considered
    is_tie: bool  # whether it is too large to tell them apart


def compare(tables: Mapping[str, Floats]) -> list[Comparison]:
    """Compare all pairs of agents, supernet by supernet: `pair_tests` of their mean scores over seeds.

    With one supernet, its seeds are compared, and the claim is of that network.

    Args:
        tables: scores [S, K] by agent, of the same supernets and seeds.

    Raises:
        InvalidValue: fewer than six supernets, or of one fewer than six seeds.
    """
    pairs = list(combinations(tables, 2))
    if not pairs:
        return []
    check_enough(*next(iter(tables.values())).shape)
    differences = np.stack([_paired(tables[one] - tables[other]) for one, other in pairs], axis=1)
    return [
        Comparison(
            one,
            other,
            float(column.mean()),
            probability_of_improvement(tables[one], tables[other]),
            p,
            p > 1 - CONFIDENCE,
        )
        for (one, other), column, p in zip(pairs, differences.T, pair_tests(differences).tolist(), strict=True)
    ]


def _paired(differences: Floats) -> Floats:
    return np.asarray(differences[0] if len(differences) == 1 else differences.mean(axis=1))


def pair_tests(differences: Floats, seed: int = 0) -> Floats:
    """Return p-values [P] of no difference, corrected for all pairs: a step-down maximum test under random signs.

    A supernet's differences all change their signs together, and each pair's t is compared with the largest t of the
    pairs that are no clearer. So the least p-value is 2^(1 - n) however many pairs there are, where Holm's correction
    multiplies by their number and calls everything a tie. (P. Westfall and S. Young, "Resampling-Based Multiple
    Testing", 1993.)

    Args:
        differences: [n, P], of n supernets (or seeds) and P pairs.
        seed: of the signs, which are drawn where there are more than 12 supernets.
    """
    count, squares = len(differences), (differences**2).sum(axis=0)
    if count <= 12:
        signs = 1 - 2 * ((np.arange(1 << count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = 1 - 2 * np.random.default_rng(seed).integers(0, 2, (RESAMPLES, count))
        signs[0] = 1  # as they are
    means = signs @ differences / count
    variances = np.maximum(squares / count - means**2, 1e-12 * squares / count + 1e-300)  # all alike: a t of 10^6
    t = np.abs(means) / np.sqrt(variances)
    order = np.argsort(-t[0], kind="stable")
    largest = np.maximum.accumulate(t[:, order[::-1]], axis=1)[:, ::-1]  # of a pair and those that are no clearer
    shares = (largest >= t[0, order] * (1 - 1e-9)).mean(axis=0)
    p_values = np.empty(len(order))
    p_values[order] = np.maximum.accumulate(shares)
    return p_values


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
