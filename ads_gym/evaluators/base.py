"""What an evaluator is: masks in, metrics out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ads_gym.architecture import DenseNetConfig
from ads_gym.nets.cost import CostTable
from ads_gym.topology import BoolArray, Topology


@dataclass(frozen=True)
class Metrics:
    """What is known of one architecture on one split."""

    accuracy: float  # share of images classified right, 0 to 1
    soft_accuracy: float  # mean probability of the true class, 0 to 1
    loss: float  # mean cross-entropy, nats
    macs: int  # multiply-adds for one image
    parameters: int
    relative_macs: float  # MACs / dense MACs
    relative_cost: float  # (MACs - least in this scope) / (dense - least), 0 to 1


@runtime_checkable
class Evaluator(Protocol):
    """Scores masks of one config and scope. Anything with these four is an evaluator."""

    @property
    def config(self) -> DenseNetConfig:
        """Of the supernet whose architectures it scores."""

    @property
    def topology(self) -> Topology:
        """The skip connections that its masks speak of."""

    @property
    def fingerprint(self) -> str:
        """Equal for two evaluators only if they give every mask the same metrics: weights, data and settings."""

    def evaluate(self, masks: BoolArray) -> list[Metrics]:
        """One Metrics for each of masks bool[n, E]; a mask's do not depend on the other masks."""


def provenance(evaluator: Evaluator) -> dict[str, str]:
    """What the metrics of `evaluator` depend on, by name: its `provenance` if it has one, else its fingerprint."""
    while isinstance(evaluator, EvaluatorWrapper):
        evaluator = evaluator.inner
    found: dict[str, str] | None = getattr(evaluator, "provenance", None)
    return {"evaluator": evaluator.fingerprint} if found is None else dict(found)


class EvaluatorWrapper:
    """The part of an evaluator that one which wraps another leaves as it is; `evaluate` is what it adds.

    Args:
        inner: the evaluator that it wraps.
    """

    def __init__(self, inner: Evaluator) -> None:
        self.inner = inner

    @property
    def config(self) -> DenseNetConfig:
        """Of the supernet."""
        return self.inner.config

    @property
    def topology(self) -> Topology:
        """The skip connections that masks speak of."""
        return self.inner.topology

    @property
    def fingerprint(self) -> str:
        """The inner evaluator's: wrapping changes no metrics."""
        return self.inner.fingerprint


def with_cost(table: CostTable, masks: BoolArray, scores: Sequence[tuple[float, float, float]]) -> list[Metrics]:
    """Metrics of masks bool[n, E] from n triples (accuracy, soft accuracy, loss): adds what each mask costs."""
    columns = (table.macs(masks), table.parameters(masks), table.relative_macs(masks), table.relative_cost(masks))
    return [
        Metrics(float(right), float(soft), float(loss), int(macs), int(parameters), float(relative_macs), float(cost))
        for (right, soft, loss), macs, parameters, relative_macs, cost in zip(scores, *columns, strict=True)
    ]
