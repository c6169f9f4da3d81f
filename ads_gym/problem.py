"""A search problem: the connections to decide, their cost and the limit on it, the evaluator, the objective.

Made once, by `make_problem`, and handed to whoever needs it: an environment, an optimiser, a search.
Shapes: E skip connections, n masks.
"""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.errors import InvalidValue, shown
from ads_gym.evaluators.base import BaseEvaluator, Evaluator, LazyEvaluator, Metrics, Weights, adopt
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.store import IN_MEMORY, EvaluationStore, StoredEvaluator
from ads_gym.files import resolve
from ads_gym.imports import import_object
from ads_gym.nets.cost import CostTable
from ads_gym.nets.features import Feature, shape_feature
from ads_gym.objective import Objective, Reward, check_cost_weight, find_reward
from ads_gym.records import checked
from ads_gym.tasks import Task
from ads_gym.topology import BoolArray, Scope, Topology

if TYPE_CHECKING:
    from ads_gym.nets.densenet import DenseNet


class Scored(NamedTuple):
    """The metrics of an architecture, and its objective."""

    metrics: Metrics
    objective: float


def _ignore(what: str, evaluations: int) -> None:
    """Nothing is charged where there is no budget."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that is fixed about a search before it begins.

    Args:
        cost: MACs and parameters of every mask.
        macs_limit: most MACs that a mask may need, None: no limit.
        evaluator: computes metrics of masks.
        objective: turns metrics into the number that is maximised.
        task: what the masks are of; None where an evaluator of another network was given.
        weights: with which the evaluator scores a network of the task; None where metrics are not such a network's.
        evaluators: for each kind of weights what scores with them, `evaluator` among them; none where `weights` is
            None.
        network: returns the trained dense network (a new copy at each call); None where metrics are not a network's.
        charge: called with a name and a number of evaluations, for what is no evaluation and costs as much.
        charged_time: a context in which that is done: its time is not the agent's.
    """

    cost: CostTable
    macs_limit: int | None
    evaluator: BaseEvaluator
    objective: Objective
    task: Task | None = None
    network: "Callable[[], DenseNet] | None" = None
    weights: Weights | None = None
    evaluators: Mapping[Weights, BaseEvaluator] = field(default_factory=dict)
    charge: Callable[[str, int], None] = _ignore
    charged_time: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def topology(self) -> Topology:
        """The skip connections, in the order in which they are decided."""
        return self.cost.topology

    @property
    def config(self) -> DenseNetConfig:
        """Config of the dense network."""
        return self.evaluator.config

    @property
    def name(self) -> str:
        """Name of the task, for people and folders."""
        return "custom" if self.task is None else self.task.name

    @property
    def room(self) -> int:
        """MACs that skip connections may need in all: the limit, less what the chain needs."""
        return (self.cost.dense_macs if self.macs_limit is None else self.macs_limit) - self.cost.least_macs

    def score(self, masks: Any) -> list[Scored]:
        """Evaluate masks.

        Args:
            masks: bool [n, E].

        Raises:
            InvalidValue: wrong shape or type, or a mask above the MACs limit: see `project`.
        """
        rows = self.topology.check_masks(masks)
        if rows.ndim != 2:
            raise InvalidValue(f"masks have shape [n, {self.topology.size}], got {rows.shape}.")
        self._check_limit(rows)
        return [Scored(metrics, self.objective(metrics)) for metrics in self.evaluator.evaluate_checked(rows)]

    def fits(self, masks: Any) -> BoolArray:
        """Return bool [...]: which of masks [..., E] are within the MACs limit."""
        bits = self.topology.as_masks(masks).astype(np.int64)
        return np.asarray(bits @ self.cost.connection_macs <= self.room)

    @checked
    def project(self, mask: Any, rng: np.random.Generator) -> BoolArray:
        """Return `mask` bool [E] made to fit the limit, by dropping kept connections uniformly at random until it does.

        A mask that fits is returned as it is. (Dropping them in their order would spend the limit on the first block.)
        """
        kept = self.topology.as_masks(mask)
        if kept.ndim != 1:
            raise InvalidValue(f"a mask has {self.topology.size} bits, got shape {kept.shape}.")
        order = rng.permutation(np.flatnonzero(kept))
        macs = self.cost.connection_macs
        excess = int(kept @ macs) - self.room
        if excess <= 0:
            return kept
        dropped = 1 + int(np.searchsorted(np.cumsum(macs[order]), excess))
        projected = kept.copy()
        projected[order[:dropped]] = False
        return projected

    @checked
    def sample(self, rng: np.random.Generator) -> BoolArray:
        """Draw a random mask bool [E] that fits: a density uniform in [0, 1] first, then the bits, then `project`.

        (With a fair coin for each bit, nearly all masks would keep about half of the connections.)
        """
        return self.project(rng.random(self.topology.size) < rng.random(), rng)

    def feature(self, feature: Feature | str) -> NDArray[np.float64]:
        """Return what is known of each connection before any evaluation, float64 [E]; see `Feature`.

        What it took is charged, once a run: see `charge_macs`.

        Raises:
            InvalidValue: a feature of a trained network, where there is none.
        """
        wanted = Feature(feature)
        if not wanted.needs_network:
            return shape_feature(self.cost, wanted)
        if self.task is None or self.network is None:
            raise InvalidValue(
                f"{wanted} is of a trained network, and {self.name} has none: use another agent, or a task that was "
                "trained."
            )
        with self.charged_time():
            known = self.task.feature(wanted, self.topology.scope)
        self.charge_macs(str(wanted), known.macs)
        return known.values.copy()

    def charge_macs(self, what: str, macs: int) -> None:
        """Charge multiply-adds on the trained network in whole evaluations: what these take in the dense network.

        Args:
            what: took them; charged once a run.
            macs: by rule: a backward pass takes two forward passes.
        """
        if macs and self.task is not None:
            self.charge(what, math.ceil(macs / (self.task.evaluated_images * self.cost.dense_macs)))

    def features(self) -> NDArray[np.float64]:
        """Return all features, float64 [E, F], in the order of `Feature`; see `feature`."""
        return np.stack([self.feature(each) for each in Feature], axis=1)

    def architecture(self, mask: BoolArray) -> Architecture:
        """Return the architecture of a mask bool [E]."""
        return Architecture(self.config, mask, self.topology.scope)

    def stored_in(self, store: EvaluationStore) -> "Problem":
        """Return the same problem, whose every evaluation is looked up in a store and committed there."""
        evaluators = {weights: StoredEvaluator(each, store) for weights, each in self.evaluators.items()}
        evaluator = StoredEvaluator(self.evaluator, store) if self.weights is None else evaluators[self.weights]
        objective = replace(self.objective, evaluator=evaluator)
        return replace(self, evaluator=evaluator, evaluators=evaluators, objective=objective)

    def close(self) -> None:
        """Release the evaluators' threads and files; they are opened again on demand."""
        for evaluator in (self.evaluator, *self.evaluators.values()):
            evaluator.close()

    def _check_limit(self, masks: BoolArray) -> None:
        if self.macs_limit is None:
            return
        macs = self.cost.macs(masks)
        if (macs > self.macs_limit).any():
            raise InvalidValue(
                f"mask {int(macs.argmax())} needs {int(macs.max()):,} MACs and max_macs allows {self.macs_limit:,}: "
                "drop connections from it (Problem.project), or raise max_macs."
            )


@checked
def make_problem(  # noqa: PLR0913 - its keywords are its user interface
    task: str | Path | Task = "digits",
    *,
    scope: str | Scope = Scope.LAYERS,
    device: str = "auto",
    evaluator: Any = None,
    weights: str | Weights | None = Weights.INHERITED,
    store: str | Path | EvaluationStore | None = None,
    reward: str | Reward = "accuracy",
    cost_weight: float | str = 0.0,
    max_macs: float | None = None,
    data_root: str | Path | None = None,
) -> Problem:
    """Make the problem of a task. Weights and data are read when the first evaluation needs them.

    Args:
        task: a name (see `ads-gym tasks`), a folder, or a `Task`.
        scope: "layers" (skip connections of layers) or "all" (those of transitions and the classifier too).
        device: where networks are evaluated: "auto", "cpu", "cuda".
        evaluator: None (the task's own), "planted:KIND:SEED" (a hidden mask on the task's network), "module:name"
            (called with task and scope), or an `Evaluator`, whose network then stands in for the task's.
        weights: with which the task's evaluator scores networks: "inherited", or "repaired": solved again in closed
            form on the calibration images, which takes a few times as long and is much nearer to what they can do.
            None: repaired, where the task's own evaluator scores its network.
        store: a path or an `EvaluationStore`: evaluations are looked up there before they are paid for, and committed
            there. None: nothing is stored.
        reward: "accuracy", "soft" (mean probability of the true class), "loss" (negated), "module:name", or a function
            of `Metrics` that returns a float.
        cost_weight: 0 to 100, or "even": the weight at which dense and chain have the same objective.
        max_macs: limit on MACs / dense MACs, at most 1 and at least what the chain needs; None: no limit.
        data_root: where data sets lie; None: `$ADS_GYM_DATA`.

    Raises:
        AdsGymError: an argument that cannot be used.
    """
    loaded = _load_task(task, data_root)
    spec = _check_spec(evaluator, loaded, Scope(scope))
    given = spec if isinstance(spec, BaseEvaluator) else None
    config = loaded.config if given is None else given.config
    cost = CostTable(config, Scope(scope))
    if given is not None:
        _check_evaluator(given, loaded if isinstance(task, Task) else None, cost.topology)
    has_weights = spec is None and loaded.has_network
    if weights is None:
        weights = Weights.REPAIRED if has_weights else Weights.INHERITED
    weights = Weights(weights)
    if weights is Weights.REPAIRED and not has_weights:
        raise InvalidValue("weights are repaired where a task's own evaluator scores its network: give no evaluator.")

    def later(what: str | BaseEvaluator | Weights | None) -> LazyEvaluator:
        make = partial(_make_evaluator, loaded, cost.topology.scope, device, what, store)
        return LazyEvaluator(config, cost.topology, make)

    evaluators = {each: later(each) for each in Weights} if has_weights else {}
    lazy = evaluators[weights] if has_weights else later(spec)
    objective = Objective(find_reward(reward), check_cost_weight(cost_weight), lazy)
    is_planted = isinstance(evaluator, str) and evaluator.partition(":")[0] == "planted"
    network = loaded.supernet if loaded.has_network and loaded.config == config and not is_planted else None
    return Problem(
        cost,
        macs_limit(cost, max_macs),
        lazy,
        objective,
        loaded if loaded.config == config else None,
        network,
        weights if evaluators else None,
        evaluators,
    )


def problem_of(evaluator: BaseEvaluator, reward: str | Reward, max_macs: float | None) -> Problem:
    """Make the problem of an evaluator that belongs to no task: no cost weight, nothing stored.

    Args:
        evaluator: computes metrics of masks.
        reward: see `make_problem`.
        max_macs: see `make_problem`.

    Raises:
        InvalidValue, UnknownName: a reward or limit that cannot be used.
    """
    cost = CostTable(evaluator.config, evaluator.topology.scope)
    return Problem(cost, macs_limit(cost, max_macs), evaluator, Objective(find_reward(reward), 0.0, evaluator))


def macs_limit(cost: CostTable, max_macs: Any) -> int | None:
    """Return the most MACs whose share of the dense MACs is within `max_macs`; None for no limit.

    Raises:
        InvalidValue: no number, above 1, or less than the chain needs.
    """
    return None if max_macs is None else macs_within(max_macs, cost.dense_macs, cost.least_macs, "only the chain")


def macs_within(max_macs: Any, dense_macs: int, least_macs: int, smallest: str) -> int:
    """Return the most MACs whose share of `dense_macs` is within `max_macs`.

    Args:
        max_macs: of a user.
        dense_macs: what it is a share of.
        least_macs: that the smallest network needs.
        smallest: what that is, for messages.

    Raises:
        InvalidValue: no number, above 1, or less than the smallest network needs.
    """
    least = -(-least_macs * 10_000 // dense_macs) / 10_000  # rounded up: what the message names must work
    expected = f"max_macs is a limit on relative MACs: None, or a number up to 1 and from {least:g} ({smallest}) on"
    if isinstance(max_macs, bool) or not isinstance(max_macs, int | float | np.integer | np.floating):
        raise InvalidValue(f"{expected}; got {shown(max_macs)}.")
    share = float(max_macs) if -2 < max_macs < 2 else math.inf  # an int may be too large for a float
    if not least_macs / dense_macs <= share <= 1:  # NaN fails too
        raise InvalidValue(f"{expected}; got {shown(max_macs)}.")
    limit = int(share * dense_macs) + 1
    while limit / dense_macs > share:  # agrees to the last bit with the relative MACs that metrics report
        limit -= 1
    return limit


def _load_task(task: str | Path | Task, data_root: str | Path | None) -> Task:
    if isinstance(task, Task):
        return task if data_root is None else task.with_data_root(data_root)
    return Task.load(task, data_root)


def _check_spec(evaluator: object, task: Task, scope: Scope) -> str | BaseEvaluator | None:
    """Return an evaluator that was given: made, if that takes no weights or data and no import; None: the task's."""
    if evaluator is None:
        return None
    if not isinstance(evaluator, str):
        return adopt(evaluator)  # type: ignore[arg-type]
    if evaluator.partition(":")[0] == "planted":
        kind, _, seed = evaluator.removeprefix("planted").removeprefix(":").partition(":")
        if not kind or not re.fullmatch("[0-9]{1,10}", seed):
            raise InvalidValue(
                f"a planted evaluator is written 'planted:KIND:SEED', as planted:linear:0, got {shown(evaluator)}."
            )
        return PlantedEvaluator(task.config, scope, kind, int(seed))
    if ":" not in evaluator:
        raise InvalidValue(
            "an evaluator is written 'planted:KIND:SEED' (as planted:linear:0) or 'module:name', got "
            f"{shown(evaluator)}."
        )
    return evaluator


def _make_evaluator(
    task: Task,
    scope: Scope,
    device: str,
    evaluator: str | BaseEvaluator | Weights | None,
    store: str | Path | EvaluationStore | None,
) -> BaseEvaluator:
    """Make what `make_problem` was asked for, behind a store unless looking up would take longer."""
    if evaluator is None or isinstance(evaluator, Weights):
        made = task.evaluator(scope, device, evaluator or Weights.INHERITED)
    else:
        made = evaluator if isinstance(evaluator, BaseEvaluator) else _named_evaluator(evaluator, task, scope)
    if store is None or (made.is_cheap and store == IN_MEMORY):
        return made
    return StoredEvaluator(made, store if isinstance(store, EvaluationStore) or store == IN_MEMORY else resolve(store))


def _named_evaluator(spec: str, task: Task, scope: Scope) -> BaseEvaluator:
    """Return the evaluator of "module:name"."""
    factory = import_object(spec, "evaluator")
    if not callable(factory):
        raise InvalidValue(f"evaluator {spec!r} is {shown(factory)}, and should be callable as name(task, scope).")
    try:
        made = factory(task, scope)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # from within: an error of the user's own code
        raise InvalidValue(f"evaluator {spec!r} should be callable as name(task, scope): {error}.") from error
    if not isinstance(made, Evaluator):
        raise InvalidValue(
            f"{spec}(task, scope) gave {shown(made)}, which is no Evaluator: it needs config, topology, "
            "fingerprint and evaluate(masks)."
        )
    if made.config != task.config or made.topology.scope != scope:
        raise InvalidValue(
            f"{spec}(task, scope) scores masks of {made.config} in scope '{made.topology.scope}', and should "
            f"those of {task.config} in scope '{scope}'."
        )
    return adopt(made)


def _check_evaluator(evaluator: BaseEvaluator, task: Task | None, topology: Topology) -> None:
    """Check that a given evaluator scores masks of the task and the scope that were given beside it."""
    if task is not None and task.config != evaluator.config:
        raise InvalidValue(
            f"the evaluator scores masks of {evaluator.config}, and task {task.name!r} has {task.config}."
        )
    if evaluator.topology != topology:
        raise InvalidValue(
            f"the evaluator scores masks of scope '{evaluator.topology.scope}' on blocks {evaluator.topology.blocks}, "
            f"the problem has scope '{topology.scope}' on {topology.blocks}: give both the same scope."
        )
