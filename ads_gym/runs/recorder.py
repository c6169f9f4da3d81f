"""An evaluator wrapper that counts and records what an agent evaluates, and stops it when the budget is spent."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from ads_gym.choices import Choice
from ads_gym.errors import BudgetExhausted, InvalidValue
from ads_gym.evaluators.base import EvaluatorWrapper, Metrics
from ads_gym.problem import Problem
from ads_gym.runs.record import Row, RunRecord
from ads_gym.topology import BoolArray

EPISODES_PER_EVALUATION = 20  # so that a policy which only repeats itself ends too


class StoppedBy(Choice, what="end of a run"):
    """Why a run is over."""

    EVALUATIONS = "evaluations"  # they are spent
    EPISODES = "episodes"  # 20 times as many, most of which repeated masks
    AGENT = "agent"  # it returned before the budget was spent


class RunWarning(UserWarning):
    """A run goes on otherwise than it began; its result is correct, but another run may not repeat it."""


class Recorder(EvaluatorWrapper):
    """An evaluator that counts, records and limits evaluations.

    The first time that the run asks for a mask is an evaluation: it is paid for, recorded, then handed on; any later
    time the record answers. A run that was killed begins again from its first step: then the record answers what it
    has, and each new mask that is asked for is compared with the one that was recorded there. At the first difference
    (an agent without a seed) one warning says so; what is recorded stays and counts, and the run goes on.

    Args:
        problem: whose evaluator computes metrics, and whose objective is recorded.
        record: of the run.
        budget: evaluations.
        on_rows: called with the rows of each batch, once they are recorded.
        on_difference: called once with the number of the row that was not asked for when its turn came.

    Raises:
        InvalidValue: the objective of a recorded evaluation is another today.
    """

    def __init__(
        self,
        problem: Problem,
        record: RunRecord,
        budget: int,
        on_rows: Callable[[Sequence[Row]], None] = lambda rows: None,
        on_difference: Callable[[int], None] = lambda number: None,
    ) -> None:
        super().__init__(problem.evaluator)
        self.record = record
        self.budget = budget
        self.episodes = 0  # masks asked for: each episode asks for one, at its end
        self.charged = 0  # evaluations, for what is none and costs as much
        self.cpu_seconds = 0.0  # of this process, in evaluations, in recording them, and in what is charged
        self.stopped_by: StoppedBy | None = None
        self.rows = record.history(self.fingerprint, self.topology)
        self._objective = problem.objective
        self._on_rows, self._on_difference = on_rows, on_difference
        self._known = {row.mask: row.metrics for row in self.rows}
        self._to_repeat = [row.mask for row in reversed(self.rows)]  # the next one last
        self._asked: set[bytes] = set()  # by this process
        self._charges: set[str] = set()
        self._check_objective()

    @property
    def next_to_repeat(self) -> int | None:
        """Number of the first recorded evaluation that was not asked for again yet; None: all were."""
        return len(self.rows) - len(self._to_repeat) + 1 if self._to_repeat else None

    def check(self) -> None:
        """Do nothing while the run goes on.

        Raises:
            BudgetExhausted: it is over.
        """
        if self.stopped_by is not None:
            raise BudgetExhausted(
                f"the run is over: {len(self.rows) + self.charged} of {self.budget} evaluations in {self.episodes} "
                f"episodes (at most {EPISODES_PER_EVALUATION} for each)."
            )

    def charge(self, what: str, evaluations: int) -> None:
        """Take evaluations off the budget, for what is none and costs as much: each thing once.

        Raises:
            BudgetExhausted: so many are not left; then the run is over.
        """
        self.check()
        if what in self._charges:
            return
        if len(self.rows) + self.charged + evaluations > self.budget:
            self.stopped_by = StoppedBy.EVALUATIONS
            raise BudgetExhausted(
                f"the run is over: {what} takes as long as {evaluations} evaluations, and of {self.budget} "
                f"{self.budget - len(self.rows) - self.charged} are left."
            )
        self._charges.add(what)
        self.charged += evaluations

    @contextmanager
    def charged_time(self) -> Iterator[None]:
        """Count the CPU time of the block as that of what is charged, not as the agent's."""
        began = time.process_time()
        try:
            yield
        finally:
            self.cpu_seconds += time.process_time() - began

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return one Metrics for each of masks bool [n, E]; a batch beyond the budget is cut in its order.

        Raises:
            BudgetExhausted: some of them were beyond it, or the run was over already.
        """
        self.check()
        keys = [self.topology.key(mask) for mask in masks]
        new: dict[bytes, tuple[BoolArray, int]] = {}  # mask, episode
        for key, mask in zip(keys, masks, strict=True):
            is_new = key not in self._known and key not in new
            if self.episodes >= EPISODES_PER_EVALUATION * self.budget:
                self.stopped_by = StoppedBy.EPISODES
            elif is_new and len(self._known) + len(new) + self.charged >= self.budget:
                self.stopped_by = StoppedBy.EVALUATIONS
            if self.stopped_by is not None:
                break
            self.episodes += 1
            self._follow(key)
            if is_new:
                new[key] = mask, self.episodes
        if new:
            self._pay(new)
        self.check()
        return [self._known[key] for key in keys]

    def close(self) -> None:
        """Do nothing: an environment that is closed does not end the run."""

    def _follow(self, key: bytes) -> None:
        """Compare a mask that this process asks for the first time with the record."""
        if key in self._asked:
            return
        self._asked.add(key)
        if not self._to_repeat:
            return
        if self._to_repeat.pop() != key:
            number = len(self.rows) - len(self._to_repeat)
            self._on_difference(number)
            self._to_repeat.clear()
            warnings.warn(
                f"the agent does not repeat itself: evaluation {number} is another than the one recorded in "
                f"{self.record.path}. What is recorded stays and counts, and the run goes on; give agents a seed that "
                "all their randomness comes from.",
                RunWarning,
                stacklevel=2,
            )

    def _pay(self, new: dict[bytes, tuple[BoolArray, int]]) -> None:
        """Evaluate and record."""
        began = time.process_time()
        _ = self._objective.cost_weight  # the first time, "even" has dense and chain evaluated and stored
        start = time.perf_counter()
        metrics = self.record.read(self.fingerprint, new)  # of the dense network, or a mask of an earlier table
        missing = {key: mask for key, (mask, _) in new.items() if key not in metrics}
        if missing:
            paid = self.inner.evaluate_checked(np.stack(list(missing.values())))
            metrics |= dict(zip(missing, paid, strict=True))
        seconds = (time.perf_counter() - start) / len(new)
        charged = max(
            self.charged, self.rows[-1].charged if self.rows else 0
        )  # an agent without a seed may charge late
        rows = [
            Row(number, key, metrics[key], self._objective(metrics[key]), episode, seconds, charged)
            for number, (key, (_, episode)) in enumerate(new.items(), start=len(self.rows) + 1)
        ]
        self.record.append(self.fingerprint, rows)
        self.rows += rows
        self._known |= {row.mask: row.metrics for row in rows}
        self._on_rows(rows)
        self.cpu_seconds += time.process_time() - began

    def _check_objective(self) -> None:
        """Check that what was recorded has the same objective today."""
        for row in self.rows:
            if self._objective(row.metrics) != row.objective:
                raise InvalidValue(
                    f"evaluation {row.number} in {self.record.path} has the objective {row.objective!r}, and this "
                    f"reward function makes it {self._objective(row.metrics)!r}: it is another one. Give another run "
                    "folder."
                )


class Budget(Protocol):
    """What ends a run: a recorder, or what stands for one in a process of the agent's own."""

    def check(self) -> None:
        """Do nothing while the run goes on; raise `BudgetExhausted` when it is over."""


class BudgetedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that is over when its run is: then every step and every reset raises `BudgetExhausted`.

    Args:
        env: whose evaluator ends the budget.
        budget: of the run.
    """

    def __init__(self, env: gym.Env[Any, Any], budget: Budget) -> None:
        super().__init__(env)
        self._budget = budget

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        self._budget.check()
        return self.env.step(action)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        self._budget.check()
        return self.env.reset(seed=seed, options=options)


class BudgetedVectorEnv(VectorWrapper[Any, Any, Any, Any, Any]):
    """The same for a vector environment; its other attributes (`problem`, `call`, ...) are those of the one inside.

    Args:
        env: whose evaluator ends the budget.
        budget: of the run.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], budget: Budget) -> None:
        super().__init__(env)
        self._budget = budget

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environments."""
        self._budget.check()
        return self.env.step(actions)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environments."""
        self._budget.check()
        return self.env.reset(seed=seed, options=options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "env":  # not there yet
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.env, name)
