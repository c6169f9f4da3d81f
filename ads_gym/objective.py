"""The objective of a search: reward of the metrics minus cost weight times relative cost."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ads_gym.errors import InvalidValue, shown, unknown_name
from ads_gym.evaluators.base import BaseEvaluator, Metrics
from ads_gym.imports import import_object
from ads_gym.limits import MAX_COST_WEIGHT

Reward = Callable[[Metrics], float]
EVEN = "even"
MAX_REMEMBERED = 4096  # rewards


def accuracy(metrics: Metrics) -> float:
    """Return the share of images that are classified right, 0 to 1."""
    return metrics.accuracy


def soft(metrics: Metrics) -> float:
    """Return the mean probability of the true class, 0 to 1."""
    return metrics.soft_accuracy


def loss(metrics: Metrics) -> float:
    """Return the loss in nats, negated."""
    return -metrics.loss


REWARDS: dict[str, Reward] = {"accuracy": accuracy, "soft": soft, "loss": loss}  # no lambdas: an env pickles


@dataclass(frozen=True, eq=False)
class Objective:
    """objective(metrics) = reward(metrics) - cost weight x relative cost.

    Args:
        function: the reward function; called once for each metrics that it is asked about.
        weight: the cost weight, or "even": the weight at which the dense network and the chain have the same objective.
        evaluator: what scores these two, where the weight is "even". They count as no evaluations of a run.
    """

    function: Reward
    weight: float | str
    evaluator: BaseEvaluator
    _remembered: dict[Metrics, float] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def cost_weight(self) -> float:
        """The cost weight as a number; "even" is resolved when first asked for.

        Raises:
            InvalidValue: dense and chain are further apart than cost weights go.
        """
        if not isinstance(self.weight, str):
            return self.weight
        topology = self.evaluator.topology
        dense, chain = self.evaluator.evaluate_checked(np.stack([topology.dense(), topology.chain()]))
        weight = self.reward(dense) - self.reward(chain)
        if abs(weight) > MAX_COST_WEIGHT:
            raise InvalidValue(
                f"dense and chain are {weight:g} apart by this reward, so that is the even cost weight, and cost "
                f"weights go up to {MAX_COST_WEIGHT:g}: scale the reward."
            )
        return weight

    def reward(self, metrics: Metrics) -> float:
        """Return the reward of metrics, before cost.

        Raises:
            InvalidValue: the reward function fails on metrics, or returns no finite number.
        """
        known = self._remembered.get(metrics)
        if known is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            known = self._remembered[metrics] = self._reward(metrics)
        return known

    def __call__(self, metrics: Metrics) -> float:
        """Return the objective of metrics: the undiscounted return of an episode that ends with them."""
        return self.reward(metrics) - self.cost_weight * metrics.relative_cost

    def _reward(self, metrics: Metrics) -> float:
        try:
            reward = float(self.function(metrics))
        except Exception as error:
            raise InvalidValue(
                f"the reward function must take metrics and return a number: {type(error).__name__}: {error}"
            ) from error
        if not math.isfinite(reward):
            raise InvalidValue(f"the reward must be a finite number, got {reward} for {metrics}.")
        return reward


def find_reward(reward: str | Reward) -> Reward:
    """Return the reward function of a name, of "module:name", or the function itself.

    Raises:
        UnknownName, InvalidValue: no such reward, or not callable.
    """
    if callable(reward):
        return reward
    if not isinstance(reward, str):
        raise InvalidValue(f"a reward is a name, 'module:name' or a function of metrics, got {shown(reward)}.")
    if ":" in reward:
        found = import_object(reward, "reward")
        if not callable(found):
            raise InvalidValue(f"reward {reward!r} should be a function of metrics, got {shown(found)}.")
        return found  # type: ignore[no-any-return]
    if reward not in REWARDS:
        raise unknown_name("reward", reward, REWARDS)
    return REWARDS[reward]


def check_cost_weight(weight: object) -> float | str:
    """Return a cost weight as a number in [0, 100], or "even".

    Raises:
        InvalidValue: anything else.
    """
    if isinstance(weight, str) and weight == EVEN:
        return EVEN
    try:
        number = float(weight)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(weight, bool | np.bool_) or not 0 <= number <= MAX_COST_WEIGHT:
        raise InvalidValue(f"a cost weight is a number from 0 to {MAX_COST_WEIGHT:g} or 'even', got {shown(weight)}.")
    return number
