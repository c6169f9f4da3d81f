"""Metrics to reward: what an episode is scored by, before its cost is taken off."""

from collections.abc import Callable

from ads_gym.errors import InvalidValue, unknown_name
from ads_gym.evaluators.base import Metrics
from ads_gym.imports import import_object

Reward = Callable[[Metrics], float]


def accuracy(metrics: Metrics) -> float:
    """The share of images that are right, 0 to 1."""
    return metrics.accuracy


def soft(metrics: Metrics) -> float:
    """The mean probability of the true class, 0 to 1."""
    return metrics.soft_accuracy


def loss(metrics: Metrics) -> float:
    """The loss in nats, negated."""
    return -metrics.loss


REWARDS: dict[str, Reward] = {"accuracy": accuracy, "soft": soft, "loss": loss}  # no lambdas: an env pickles

MOST_COST_WEIGHT = 100.0


def resolve_reward(reward: str | Reward) -> Reward:
    """The reward function of a name, of "module:name", or of itself.

    Raises:
        UnknownName, InvalidValue: no such reward, or not callable.
    """
    if callable(reward):
        return reward
    if not isinstance(reward, str):
        raise InvalidValue(f"a reward is a name, 'module:name' or a function of metrics, got {reward!r}.")
    if ":" in reward:
        return import_object(reward, "reward")  # type: ignore[no-any-return]
    if reward not in REWARDS:
        raise unknown_name("reward", reward, REWARDS)
    return REWARDS[reward]


def check_cost_weight(weight: object) -> float | str:
    """A cost weight as a number in [0, 100], or "even".

    Raises:
        InvalidValue: anything else.
    """
    if weight == "even":
        return "even"
    try:
        number = float(weight)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(weight, bool) or not 0 <= number <= MOST_COST_WEIGHT:
        raise InvalidValue(f"a cost weight is a number from 0 to {MOST_COST_WEIGHT:g} or 'even', got {weight!r}.")
    return number
