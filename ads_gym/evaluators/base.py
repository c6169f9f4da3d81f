"""Evaluator interface (masks in, metrics out), and base classes of evaluators and of their wrappers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from ads_gym.architecture import DenseNetConfig
from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue, shown
from ads_gym.nets.cost import CostTable
from ads_gym.records import Count, check, plain
from ads_gym.topology import BoolArray, Topology


class Weights(Choice, what="weights"):
    """With which weights an architecture is scored."""

    INHERITED = "inherited"  # the supernet's, as they are
    REPAIRED = "repaired"  # solved again in closed form, on the calibration images


@dataclass(frozen=True)
class Metrics:
    """Metrics of one architecture on one split."""

    accuracy: float  # share of images classified right, 0 to 1
    soft_accuracy: float  # mean probability of the true class, 0 to 1
    loss: float  # mean cross-entropy, nats
    macs: int  # multiply-adds for one image
    parameters: int
    relative_macs: float  # MACs / dense MACs
    relative_cost: float  # (MACs - least in this scope) / (dense - least), 0 to 1


MAX_METRIC = 1e30  # of those that are floats, either sign
FIELD_TYPES: Mapping[str, Any] = {field.name: field.type for field in fields(Metrics)}  # name -> float or int

_KINDS = {
    name: Annotated[float, Field(ge=-MAX_METRIC, le=MAX_METRIC)] if kind is float else Count
    for name, kind in FIELD_TYPES.items()
}


@runtime_checkable
class Evaluator(Protocol):
    """Scores masks of one config and scope. Anything with these four members is an evaluator."""

    @property
    def config(self) -> DenseNetConfig:
        """Config of the supernet whose architectures are scored."""

    @property
    def topology(self) -> Topology:
        """Skip connections that a mask is about."""

    @property
    def fingerprint(self) -> str:
        """Equal for two evaluators only if they give every mask the same metrics: weights, data and settings."""

    def evaluate(self, masks: BoolArray) -> list[Metrics]:
        """One Metrics for each of masks bool [n, E]; a mask's metrics do not depend on the other masks."""


class BaseEvaluator(ABC):
    """Base class of the evaluators of this package: `evaluate` checks its masks, `evaluate_checked` trusts them.

    Evaluators that wrap others call `evaluate_checked`, so that a mask is checked once on its way.

    Attributes:
        is_cheap: whether an evaluation takes less time than a look-up in a store.
    """

    config: DenseNetConfig
    topology: Topology
    is_cheap: bool = False

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Equal for two evaluators only if they give every mask the same metrics: weights, data and settings."""

    def evaluate(self, masks: Any) -> list[Metrics]:
        """Return one Metrics for each of masks bool [n, E].

        Raises:
            InvalidValue: masks of another topology.
        """
        rows = np.atleast_2d(self.topology.check_masks(masks))
        if rows.ndim != 2:
            raise InvalidValue(f"masks have shape [n, {self.topology.size}], got {rows.shape}.")
        return self.evaluate_checked(rows)

    @abstractmethod
    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return one Metrics for each of masks bool [n, E] that `Topology.check_masks` has accepted."""

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Release threads and files; they are opened again on demand."""


class ForeignEvaluator(BaseEvaluator):
    """An evaluator of a user's own, whose answers are checked.

    Args:
        evaluator: any object with the members of `Evaluator`.

    Raises:
        InvalidValue: an object that lacks one of them.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        missing = [name for name in ("config", "topology", "fingerprint", "evaluate") if not hasattr(evaluator, name)]
        if missing or isinstance(evaluator, type):
            raise InvalidValue(
                "an evaluator is 'planted:KIND:SEED', 'module:name' or an object with config, topology, fingerprint "
                f"and evaluate(masks); {shown(evaluator)} has no "
                f"{' and no '.join(missing) or 'instance: call it first'}."
            )
        if not isinstance(evaluator.fingerprint, str) or not evaluator.fingerprint:
            raise InvalidValue(f"the fingerprint of an evaluator is a string, got {shown(evaluator.fingerprint)}.")
        for name, kind in (("config", DenseNetConfig), ("topology", Topology)):
            if not isinstance(getattr(evaluator, name), kind):
                raise InvalidValue(
                    f"{name} of an evaluator is a {kind.__name__}, got {shown(getattr(evaluator, name))}."
                )
        self.evaluator = evaluator
        self.config, self.topology = evaluator.config, evaluator.topology
        self._evaluate = evaluator.evaluate
        if isinstance(evaluator, BaseEvaluator) and not _overrides_evaluate(evaluator):
            self._evaluate = evaluator.evaluate_checked

    @property
    def is_cheap(self) -> bool:  # type: ignore[override]
        """The user's, where it says so."""
        return bool(getattr(self.evaluator, "is_cheap", False))

    @property
    def fingerprint(self) -> str:
        """The user's."""
        return self.evaluator.fingerprint

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return what the user's evaluator answers, as plain floats and ints.

        Raises:
            InvalidValue: anything but one Metrics of numbers for each mask.
        """
        return check_metrics(self._evaluate(masks), len(masks))

    def close(self) -> None:
        """Close the user's evaluator, where it can be closed."""
        close = getattr(self.evaluator, "close", None)
        if callable(close):
            close()


class EvaluatorWrapper(BaseEvaluator):
    """An evaluator around another one with the same config, topology and fingerprint.

    Args:
        inner: the evaluator that is wrapped.
    """

    def __init__(self, inner: Evaluator) -> None:
        self.inner = adopt(inner)
        self.config, self.topology = self.inner.config, self.inner.topology

    @property
    def is_cheap(self) -> bool:  # type: ignore[override]
        """The inner evaluator's."""
        return self.inner.is_cheap

    @property
    def fingerprint(self) -> str:
        """The inner evaluator's: wrapping changes no metrics."""
        return self.inner.fingerprint

    @property
    def provenance(self) -> Mapping[str, str]:
        """The inner evaluator's, see `provenance`."""
        return provenance(self.inner)

    def close(self) -> None:
        """Close the inner evaluator."""
        self.inner.close()


class LazyEvaluator(BaseEvaluator):
    """An evaluator that is made when it is first needed; weights and data are read then.

    Args:
        config: of the evaluator that will be made.
        topology: likewise.
        make: makes it; a function that pickles, where the evaluator is to be pickled.
    """

    def __init__(self, config: DenseNetConfig, topology: Topology, make: Callable[[], BaseEvaluator]) -> None:
        self.config, self.topology, self._make = config, topology, make
        self._made: BaseEvaluator | None = None

    @property
    def inner(self) -> BaseEvaluator:
        """The evaluator itself."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @property
    def is_cheap(self) -> bool:  # type: ignore[override]
        """The evaluator's."""
        return self.inner.is_cheap

    @property
    def fingerprint(self) -> str:
        """The evaluator's."""
        return self.inner.fingerprint

    @property
    def provenance(self) -> Mapping[str, str]:
        """The evaluator's, see `provenance`."""
        return provenance(self.inner)

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return the evaluator's metrics of masks bool [n, E]."""
        return self.inner.evaluate_checked(masks)

    def close(self) -> None:
        """Close the evaluator; it is made again on demand."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": None}


def adopt(evaluator: Evaluator) -> BaseEvaluator:
    """Return an evaluator of this package as it is, and any other one as a `ForeignEvaluator`.

    Classes of other packages are other ones, also where they derive from ours: their answers are checked.

    Raises:
        InvalidValue: an object that is no evaluator.
    """
    package = type(evaluator).__module__.partition(".")[0]
    return evaluator if isinstance(evaluator, BaseEvaluator) and package == "ads_gym" else ForeignEvaluator(evaluator)


def _overrides_evaluate(evaluator: BaseEvaluator) -> bool:
    return type(evaluator).evaluate is not BaseEvaluator.evaluate


def provenance(evaluator: Evaluator) -> Mapping[str, str]:
    """Return what an evaluator's metrics were computed from, part by part: "weights", "data", "torch", ...

    An evaluator that does not say so has one part, "evaluator", its fingerprint.
    """
    inner = evaluator.evaluator if isinstance(evaluator, ForeignEvaluator) else evaluator
    parts: Mapping[str, str] | None = getattr(inner, "provenance", None)
    return {"evaluator": evaluator.fingerprint} if parts is None else parts


def check_metrics(metrics: Any, count: int) -> list[Metrics]:
    """Return the answer of an evaluator for `count` masks, as plain floats and ints.

    Raises:
        InvalidValue: anything but a list of one Metrics of numbers for each mask.
    """
    if not isinstance(metrics, Sequence) or len(metrics) != count:
        got = len(metrics) if isinstance(metrics, Sequence) else type(metrics).__name__
        raise InvalidValue(f"the evaluator was asked for {count} masks and gave {got} metrics.")
    for values in metrics:
        if not isinstance(values, Metrics):
            raise InvalidValue(f"an evaluator gives Metrics, got {shown(values)}.")
    return [Metrics(**{name: _number(name, getattr(row, name)) for name in FIELD_TYPES}) for row in metrics]


def _number(name: str, value: Any) -> Any:
    """A metric as a plain number; a whole one may come as a float."""
    if type(value) is float and FIELD_TYPES[name] is float and abs(value) <= MAX_METRIC:
        return value  # as most are
    value = plain(value)
    if FIELD_TYPES[name] is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    return check(value, _KINDS[name], f"{name} of the evaluator's metrics")


def with_cost(table: CostTable, masks: BoolArray, scores: Sequence[tuple[float, float, float]]) -> list[Metrics]:
    """Return metrics of masks bool [n, E] from n triples (accuracy, soft accuracy, loss), with what each mask costs."""
    columns = (table.macs(masks), table.parameters(masks), table.relative_macs(masks), table.relative_cost(masks))
    return [
        Metrics(float(right), float(soft), float(loss), int(macs), int(parameters), float(relative_macs), float(cost))
        for (right, soft, loss), macs, parameters, relative_macs, cost in zip(scores, *columns, strict=True)
    ]
