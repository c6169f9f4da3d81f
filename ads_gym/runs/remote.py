"""What an agent sees of a search in a process of its own: a problem whose evaluator is a pipe.

A question is a line of JSON, so that whoever answers unpickles nothing that an agent made; an answer is pickled.
"""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ads_gym.agents.registry import LoadedAgent
from ads_gym.architecture import DenseNetConfig
from ads_gym.envs.episode import Decision
from ads_gym.errors import AdsGymError, BudgetExhausted, ForkedProcess, InvalidValue
from ads_gym.evaluators.base import BaseEvaluator, Metrics
from ads_gym.nets.cost import CostTable
from ads_gym.nets.features import Feature, shape_feature
from ads_gym.objective import REWARDS, Objective
from ads_gym.problem import Problem
from ads_gym.topology import BoolArray


@dataclass(frozen=True)
class Terms:
    """What an agent's process is told at its beginning, and all that it is told.

    Args:
        agent: who plays, or a name that stands for it.
        options: its keywords.
        decision: of the environment, where it plays one.
        seed: of the agent.
        config: of the dense network.
        cost: MACs and parameters of every mask.
        macs_limit: most MACs that a mask may need, None: no limit.
        cost_weight: as a number.
        reward: its name; None: it has none, and is asked for.
        fingerprint: of the evaluator; it is no key of any store.
        threads: that torch uses in the process that asks; None: it has no torch.
        large: whether what needs much memory is allowed.
    """

    agent: LoadedAgent | str
    options: Mapping[str, Any]
    decision: Decision
    seed: int
    config: DenseNetConfig
    cost: CostTable
    macs_limit: int | None
    cost_weight: float
    reward: str | None
    fingerprint: str
    threads: int | None
    large: bool


class Link:
    """The agent's end of the pipe: asks, and waits for the answer.

    Args:
        connection: to the process that searches.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection, self._lock, self._process = connection, threading.Lock(), os.getpid()
        self._number = 0

    def ask(self, what: str, **details: Any) -> Any:
        """Return the answer to a question.

        Raises:
            AdsGymError: that is the answer.
            ForkedProcess: in a process that the agent made by fork.
        """
        if os.getpid() != self._process:
            raise ForkedProcess(
                "an agent with a time limit asks for evaluations from its first process only: play in that one, or "
                "without a time limit."
            )
        with self._lock:
            self._number += 1
            self.tell(what, number=self._number, **details)
            number = None
            while number != self._number:  # an answer that the agent did not wait for is nobody's
                try:
                    number, answer = self._connection.recv()
                except EOFError:  # nobody is there any more who could be told
                    os._exit(1)
        if isinstance(answer, AdsGymError):
            raise answer
        return answer

    def tell(self, what: str, **details: Any) -> None:
        """Send what needs no answer."""
        self._connection.send_bytes(json.dumps({"what": what} | details).encode())

    def __reduce__(self) -> Any:
        raise InvalidValue(
            "the environment of an agent with a time limit cannot be copied or sent to other processes: play in the "
            "one that is given, or without a time limit."
        )


class RemoteEvaluator(BaseEvaluator):
    """An evaluator that has masks scored by the process that searches, and knows nothing else.

    Args:
        link: to that process.
        config: of the dense network.
        cost: of its masks.
        fingerprint: of the evaluator.
    """

    def __init__(self, link: Link, config: DenseNetConfig, cost: CostTable, fingerprint: str) -> None:
        self.config, self.topology = config, cost.topology
        self._link, self._fingerprint = link, fingerprint
        self._is_over = False

    @property
    def fingerprint(self) -> str:
        """Equal for equal evaluators."""
        return self._fingerprint

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return one Metrics for each of masks bool [n, E].

        Raises:
            BudgetExhausted: some of them were beyond the budget, or the run was over already.
            InvalidValue: a mask above the MACs limit.
        """
        keys = [self.topology.key(mask).hex() for mask in masks]
        return [Metrics(*values) for values in self.ask("evaluate", masks=keys)]

    def check(self) -> None:
        """Do nothing while the run goes on.

        Raises:
            BudgetExhausted: it is over.
        """
        if self._is_over:
            self.ask("check")

    def ask(self, what: str, **details: Any) -> Any:
        """Ask the process that searches, and remember if the run is over."""
        try:
            return self._link.ask(what, **details)
        except BudgetExhausted:
            self._is_over = True
            raise


@dataclass(frozen=True)
class RemoteReward:
    """A reward function that only the process that searches has.

    Args:
        link: to that process.
    """

    link: Link

    def __call__(self, metrics: Metrics) -> float:
        """Return the reward of metrics."""
        return float(self.link.ask("reward", metrics=list(vars(metrics).values())))


@dataclass(frozen=True, eq=False)
class RemoteProblem(Problem):
    """A problem whose evaluations, features and charges are another process's."""

    evaluator: RemoteEvaluator

    def feature(self, feature: Feature | str) -> NDArray[np.float64]:
        """Return what is known of each connection before any evaluation, float64 [E]; charged as in `Problem`."""
        wanted = Feature(feature)
        if not wanted.needs_network:
            return shape_feature(self.cost, wanted)
        return np.array(self.evaluator.ask("feature", feature=str(wanted)), np.float64)

    def charge_macs(self, what: str, macs: int) -> None:
        """Charge multiply-adds in whole evaluations, as `Problem` does."""
        self.evaluator.ask("charge_macs", name=what, macs=int(macs))


def remote_problem(link: Link, terms: Terms) -> tuple[RemoteProblem, RemoteEvaluator]:
    """Return the problem that an agent sees, and its evaluator, which ends the budget."""
    evaluator = RemoteEvaluator(link, terms.config, terms.cost, terms.fingerprint)
    function = RemoteReward(link) if terms.reward is None else REWARDS[terms.reward]

    def charge(what: str, evaluations: int) -> None:
        evaluator.ask("charge", name=what, evaluations=int(evaluations))

    problem = RemoteProblem(
        terms.cost,
        terms.macs_limit,
        evaluator,
        Objective(function, terms.cost_weight, evaluator),
        charge=charge,
    )
    return problem, evaluator
