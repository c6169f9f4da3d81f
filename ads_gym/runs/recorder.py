"""What a run remembers and when it is over: each evaluation once, up to a budget, and the same again after a kill."""

import time
import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from ads_gym.errors import BudgetExhausted
from ads_gym.evaluators.base import Evaluator, EvaluatorWrapper, Metrics
from ads_gym.runs.history import History, Row
from ads_gym.topology import BoolArray

EPISODES_PER_EVALUATION = 20  # so that a policy which only repeats itself ends too


class StoppedBy(StrEnum):
    """Why a run is over."""

    EVALUATIONS = "evaluations"  # it has spent them
    EPISODES = "episodes"  # 20 times as many, most of which repeated masks
    AGENT = "agent"  # it returned before the budget was spent


class RunWarning(UserWarning):
    """A run goes on otherwise than it began; its result is correct, but another run may not repeat it."""


class RecordedEvaluator(EvaluatorWrapper):
    """Counts, records and limits what an agent asks of an evaluator.

    The first time that the run asks for a mask is an evaluation: it is paid, recorded, then handed on; any later time
    the record answers. A run that was killed begins again from its first step: then the record answers what it has,
    and each new mask that is asked for is compared with the one that was recorded there. At the first difference (an
    agent without a seed) one warning says so; what is recorded stays and counts, and the run goes on.

    Args:
        inner: what evaluates; behind a store, so that an evaluation that a kill kept from the record is not paid again.
        history: the record, with what is recorded so far.
        budget: evaluations.
        score: the reward of metrics.
        on_rows: called with the rows of each batch, once they are recorded.
        on_difference: called once with the index of the row that was not asked for when its turn came.
    """

    def __init__(
        self,
        inner: Evaluator,
        history: History,
        budget: int,
        score: Callable[[Metrics], float],
        on_rows: Callable[[Sequence[Row]], None] = lambda rows: None,
        on_difference: Callable[[int], None] = lambda index: None,
    ) -> None:
        super().__init__(inner)
        self.history = history
        self.budget = budget
        self.episodes = 0  # masks asked for: each episode asks for one, at its end
        self.stopped_by: StoppedBy | None = None
        self._score = score
        self._on_rows, self._on_difference = on_rows, on_difference
        self._known = {row.mask: row.metrics for row in history.rows}
        self._to_repeat = [row.mask for row in reversed(history.rows)]  # the next one last
        self._asked: set[bytes] = set()  # by this process

    @property
    def replaying(self) -> bool:
        """Whether the record has rows that the agent has not come to again."""
        return bool(self._to_repeat)

    def check(self) -> None:
        """Nothing, while the run goes on.

        Raises:
            BudgetExhausted: it is over.
        """
        if self.stopped_by is not None:
            raise BudgetExhausted(
                f"the run is over: {len(self.history.rows)} of {self.budget} evaluations in {self.episodes} episodes "
                f"(at most {EPISODES_PER_EVALUATION} for each)."
            )

    def evaluate(self, masks: BoolArray) -> list[Metrics]:
        """One Metrics for each of masks bool[n, E]; a batch beyond the budget is cut in its order, paid that far.

        Raises:
            BudgetExhausted: some of them were beyond it, or the run was over already.
            InvalidValue: masks of another topology.
        """
        self.check()
        masks = np.atleast_2d(self.topology.check_masks(masks))
        keys = [self.topology.key(mask) for mask in masks]
        new: dict[bytes, tuple[BoolArray, int]] = {}  # mask, episode
        for key, mask in zip(keys, masks, strict=True):
            is_new = key not in self._known and key not in new
            if self.episodes >= EPISODES_PER_EVALUATION * self.budget:
                self.stopped_by = StoppedBy.EPISODES
            elif is_new and len(self._known) + len(new) >= self.budget:
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

    def uncounted(self, masks: BoolArray) -> list[Metrics]:
        """Metrics of masks bool[n, E] that the run itself needs and no agent asked for; they are not recorded."""
        return self.inner.evaluate(masks)

    def _follow(self, key: bytes) -> None:
        """Compares a mask that this process asks for the first time with the record."""
        if key in self._asked:
            return
        self._asked.add(key)
        if not self._to_repeat:
            return
        if self._to_repeat.pop() != key:
            index = len(self.history.rows) - len(self._to_repeat)
            self._to_repeat.clear()
            warnings.warn(
                f"the agent does not repeat itself: evaluation {index} is another than the one recorded in "
                f"{self.history.path}. What is recorded stays and counts, and the run goes on; give agents a seed that "
                "all their randomness comes from.",
                RunWarning,
                stacklevel=2,
            )
            self._on_difference(index)

    def _pay(self, new: dict[bytes, tuple[BoolArray, int]]) -> None:
        """Evaluates and records."""
        start = time.perf_counter()
        paid = self.inner.evaluate(np.stack([mask for mask, _ in new.values()]))
        seconds = (time.perf_counter() - start) / len(new)
        first = len(self.history.rows) + 1
        rows = [
            Row(index, key, metrics, self._score(metrics), episode, seconds)
            for index, ((key, (_, episode)), metrics) in enumerate(zip(new.items(), paid, strict=True), start=first)
        ]
        self.history.append(rows)
        self._known |= {row.mask: row.metrics for row in rows}
        self._on_rows(rows)


class BudgetedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that is over when its run is: then every step and every reset raises `BudgetExhausted`.

    Args:
        env: whose evaluator is `record`.
        record: of the run.
    """

    def __init__(self, env: gym.Env[Any, Any], record: RecordedEvaluator) -> None:
        super().__init__(env)
        self._record = record

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's."""
        self._record.check()
        return self.env.step(action)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The environment's."""
        self._record.check()
        return self.env.reset(seed=seed, options=options)


class BudgetedVectorEnv(VectorWrapper[Any, Any, Any, Any, Any]):
    """The same for a vector environment; what else the one inside has (`evaluate`, `call`, ...) is had here too.

    Args:
        env: whose evaluator is `record`.
        record: of the run.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], record: RecordedEvaluator) -> None:
        super().__init__(env)
        self._record = record

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """The environments'."""
        self._record.check()
        return self.env.step(actions)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The environments'."""
        self._record.check()
        return self.env.reset(seed=seed, options=options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "env":  # not there yet
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.env, name)
