"""Short runs of an agent that is checked, and of those that it is compared with."""

import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ads_gym.agents.base import Needs
from ads_gym.benchmark.entrants import Entrant, find_entrant
from ads_gym.envs.episode import Decision
from ads_gym.errors import AdsGymError, AgentFailed, TimeLimit
from ads_gym.evaluators.store import IN_MEMORY
from ads_gym.problem import Problem
from ads_gym.runs.child import KEPT, TRACEBACK
from ads_gym.runs.driving import drive
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.identity import identify
from ads_gym.runs.open_run import Job, open_run
from ads_gym.runs.play import play
from ads_gym.runs.record import Row, RunRecord, best_of
from ads_gym.runs.recorder import Recorder, RunWarning, StoppedBy


class Trial(NamedTuple):
    """A run that is over."""

    rows: Sequence[Row]
    episodes: int
    stopped_by: StoppedBy
    agent_seconds: float  # of CPU, without evaluations

    @property
    def masks(self) -> list[bytes]:
        """In the order in which they were evaluated."""
        return [row.mask for row in self.rows]


class Mistake(NamedTuple):
    """What ended a run before its end."""

    found: str
    advice: str
    details: str = ""  # a traceback


class Trials:
    """Plays an agent, in a process of its own unless it needs the trained network itself.

    Args:
        entrant: the agent and its options.
        folder: for its runs.
        time_limit: wall seconds of each.
    """

    def __init__(self, entrant: Entrant, folder: Path, time_limit: float) -> None:
        self.entrant, self._folder = entrant, folder
        self.time_limit = None if entrant.agent.needs is Needs.NETWORK else time_limit

    def play(self, name: str, problem: Problem, evaluations: int, seed: int = 0) -> Trial | Mistake:
        """Play a run, or go on with the one of that name."""
        agent, options = self.entrant.agent, self.entrant.options
        job = Job(problem, agent, options, Decision.CONNECTION, seed)
        try:
            agent.check_problem(problem)
            identity = identify(
                problem, problem.objective.function, agent, agent.name, options, str(job.decision), seed
            )
            with (
                warnings.catch_warnings(action="ignore", category=RunWarning),
                open_run(RunFolder(self._folder / name), job, identity, evaluations) as run,
            ):
                play(run, False, self.time_limit)
                return Trial(run.rows, run.episodes, run.stopped_by, run.agent_seconds)
        except (Exception, SystemExit) as error:
            return mistake(error)


def mistake(error: BaseException) -> Mistake:
    """What an error says of the agent that made it."""
    head, _, details = str(error).partition(TRACEBACK)
    told = head.partition(KEPT)[0].strip()
    if isinstance(error, TimeLimit):
        return Mistake(
            told.partition(";")[0],
            "end when step or reset raises BudgetExhausted, and catch no exceptions that are not yours; or allow more "
            "with --time-limit",
        )
    if isinstance(error, AgentFailed) and details:
        return Mistake(details.splitlines()[-1], "see its traceback below", details)
    if isinstance(error, AgentFailed):
        return Mistake(told, "let it run without a time limit (ads-gym search) and see what it says")
    if isinstance(error, AdsGymError):
        return Mistake(told, "give what is asked for: see ads_gym.agents.base and the environment's docstring")
    return Mistake(f"{type(error).__name__}: {error}", "see its traceback below", traceback.format_exc(limit=-5))


def rival(agent: str, problem: Problem, evaluations: int, seeds: int) -> float:
    """The best objective of an agent of ours, on average over seeds."""
    return float(np.mean([_best(find_entrant(agent), problem, evaluations, seed) for seed in range(seeds)]))


def _best(entrant: Entrant, problem: Problem, evaluations: int, seed: int) -> float:
    with RunRecord(IN_MEMORY) as record:
        recorder = Recorder(problem, record, evaluations)
        counted = replace(problem, evaluator=recorder, charge=recorder.charge)
        drive(Job(counted, entrant.agent, entrant.options, Decision.CONNECTION, seed), recorder, Path)
        return best_of(recorder.rows).objective
