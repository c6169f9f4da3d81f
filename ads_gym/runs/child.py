"""An agent in a process of its own, with a time limit: it asks through a pipe, and this process answers.

The evaluator, the task with its weights and images, stores, and the run with its record stay here; so do the counts.
An agent gets what it may know (topology, costs, limit, objective), and an evaluator that is a pipe. This keeps agents
from what they should not use by accident or as a shortcut, ends those that never end, and tells those that die from
those that err. It is no sandbox: a process can read what its user can read, other processes and the files of this
machine among it. Who plays agents of strangers should do that in a container.
"""

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np

from ads_gym import errors
from ads_gym.agents.base import Needs
from ads_gym.agents.registry import LoadedAgent, find_agent
from ads_gym.agents.starts import RANKINGS
from ads_gym.errors import AdsGymError, AgentFailed, InvalidValue, TimeLimit, shown
from ads_gym.evaluators.base import Metrics
from ads_gym.limits import is_large_allowed
from ads_gym.objective import REWARDS
from ads_gym.problem import Problem
from ads_gym.records import Count, check
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.in_child import main
from ads_gym.runs.open_run import Job
from ads_gym.runs.recorder import Recorder
from ads_gym.runs.remote import Terms

LAST = "ended", "raised"  # messages after which there is none
LONGEST_WAIT = 3600.0  # seconds; some systems wait no longer than 24 days
KEPT = "What it has evaluated is kept"
TRACEBACK = "Its traceback:\n"
TO_END = 2.0  # seconds that a process has to end after its last message

Answer = Callable[[Mapping[str, Any]], Any]


def check_agent(agent: LoadedAgent, options: Mapping[str, Any]) -> None:
    """Check that an agent can play in a process of its own.

    Raises:
        InvalidValue: it reads the trained network, which stays in this one.
    """
    start = options.get("start")
    ranking = RANKINGS.get(start) if isinstance(start, str) else None
    if agent.needs is Needs.NETWORK or (ranking is not None and ranking.needs is Needs.NETWORK):
        what = f"agent {agent.name}" if agent.needs is Needs.NETWORK else f"start {start!r}"
        raise InvalidValue(
            f"{what} learns on the trained network itself, which an agent with a time limit does not get: leave the "
            "time limit out."
        )


def play_in_child(job: Job, recorder: Recorder, folder: RunFolder, time_limit: float) -> float:
    """Let the agent play in a process of its own; return the seconds of CPU that it took.

    Args:
        job: its problem's evaluator is `recorder`.
        recorder: of the run.
        folder: of the run.
        time_limit: wall seconds from the start of the process to its end, evaluations among them.

    Raises:
        TimeLimit: it took longer, and was ended.
        AgentFailed: it raised, or its process died.
        AdsGymError: raised here or there, as without a time limit.
    """
    name = job.agent.name
    terms = _packed(job)
    here, there = multiprocessing.get_context("spawn").Pipe()
    with here, there:
        process = multiprocessing.get_context("spawn").Process(target=main, args=(there,), name=f"ads-gym {name}")
        deadline = time.monotonic() + time_limit
        process.start()
        there.close()
        asked = Questions(job.problem, recorder, folder, terms)
        patience = 0.0
        try:
            last = _serve(here, process, asked, deadline)
            is_late = last is None and time.monotonic() >= deadline
            patience = 0.0 if is_late else TO_END
        finally:
            _end(process, patience)
        code = process.exitcode
    kept = f"{KEPT} in {folder.path}, and the same call goes on from there." if recorder.rows else ""
    if is_late:
        done = f"{len(recorder.rows)} of {recorder.budget} evaluations"
        raise TimeLimit(
            f"agent {name} is not done after time_limit = {time_limit:g} seconds and {done}; its process was ended: "
            f"give it more time. {kept}".strip()
        )
    if last is None:
        raise AgentFailed(f"the process of agent {name} {_died(code, asked.has_begun)}. {kept}".strip())
    if last["what"] == "raised":
        raise _error(name, last, kept)
    return float(last["seconds"])


class Questions:
    """Answers what an agent's process asks.

    Args:
        problem: its evaluator is the recorder.
        recorder: of the run.
        folder: of the run.
        terms: packed.
    """

    def __init__(self, problem: Problem, recorder: Recorder, folder: RunFolder, terms: bytes) -> None:
        self._problem, self._recorder, self._folder, self._terms = problem, recorder, folder, terms
        self.has_begun = False

    def answer(self, asked: Mapping[str, Any]) -> bytes:
        """Return what a question is answered with, an error of ours among it, pickled."""
        try:
            found = self._answer(asked)
        except AdsGymError as error:
            found = error
        return pickle.dumps((asked.get("number"), found))

    def _answer(self, asked: Mapping[str, Any]) -> Any:
        problem = self._problem
        match asked:
            case {"what": "terms"}:
                self.has_begun = True
                return self._terms
            case {"what": "evaluate", "masks": list(keys)}:
                masks = [problem.topology.mask(bytes.fromhex(key)) for key in keys]
                scored = problem.score(np.array(masks, np.bool_).reshape(len(masks), problem.topology.size))
                return [tuple(vars(each.metrics).values()) for each in scored]
            case {"what": "check"}:
                return self._recorder.check()
            case {"what": "feature", "feature": str(feature)}:
                return problem.feature(feature)
            case {"what": "reward", "metrics": list(values)}:
                return problem.objective.reward(Metrics(*values))
            case {"what": "charge", "name": str(name), "evaluations": count}:
                return problem.charge(name, check(count, Count, "evaluations that are charged"))
            case {"what": "charge_macs", "name": str(name), "macs": macs}:
                return problem.charge_macs(name, check(macs, Count, "MACs that are charged"))
            case {"what": "policy"}:
                return str(self._folder.policy)
        raise InvalidValue(f"an agent's process asks nothing like {shown(asked)}.")


def _serve(
    connection: "Connection[Any, Any]", process: SpawnProcess, asked: Questions, deadline: float
) -> Mapping[str, Any] | None:
    """Answer questions until the last message, which is returned; None: the time is over, or the process died."""
    while (left := deadline - time.monotonic()) > 0:
        if connection in (ready := wait([connection, process.sentinel], min(left, LONGEST_WAIT))):
            message = _received(connection)
            if message is None or message["what"] in LAST:
                return message
            answer = asked.answer(message)
            with suppress(ConnectionError):  # it died in the meantime, as the next round sees
                connection.send_bytes(answer)
        elif ready:
            return None
    return None


def _received(connection: "Connection[Any, Any]") -> Mapping[str, Any] | None:
    """A message; None: the process died."""
    try:
        message: Mapping[str, Any] = json.loads(connection.recv_bytes())
    except (EOFError, ConnectionError):
        return None
    return message


def _end(process: SpawnProcess, patience: float) -> None:
    """End a process, if it does not by itself in so many seconds, and whatever it started."""
    wait([process.sentinel], patience)
    with suppress(ProcessLookupError, PermissionError):  # it has not begun, or is over with all that it started
        if hasattr(os, "killpg") and process.pid is not None:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _packed(job: Job) -> bytes:
    """The terms of an agent's process, pickled.

    Raises:
        InvalidValue: an agent or options that another process does not find.
    """
    problem, objective, torch = job.problem, job.problem.objective, sys.modules.get("torch")
    reward = next((name for name, function in REWARDS.items() if function is objective.function), None)
    of_network = problem.config, problem.cost, problem.macs_limit, objective.cost_weight, reward
    fingerprint = hashlib.sha256(problem.evaluator.fingerprint.encode()).hexdigest()[:32]
    of_process = fingerprint, torch.get_num_threads() if torch else None, is_large_allowed()

    def packed(agent: LoadedAgent | str) -> bytes:
        return pickle.dumps(Terms(agent, job.options, job.decision, job.seed, *of_network, *of_process))

    try:
        typed = not hasattr(sys.modules["__main__"], "__file__")  # into an interpreter
        if typed and getattr(job.agent.make, "__module__", None) == "__main__":
            raise pickle.PicklingError("it is in no file")
        return packed(job.agent)
    except Exception as error:  # whatever pickling raises
        with suppress(AdsGymError):
            if find_agent(job.agent.name).make is job.agent.make:
                return packed(job.agent.name)
        raise InvalidValue(
            f"agent {job.agent.name} with a time limit plays in a process of its own, and is not found there: use a "
            f"class or function at the top of a module, or leave the time limit out ({error})."
        ) from error


def _died(code: int | None, has_begun: bool) -> str:
    """How a process ended that did not say so."""
    if code is not None and code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"was ended by {names.get(-code, 'a signal')} (exit code {code}): did it need too much memory?"
    if has_begun:
        return f"ended with exit code {code} and without a word"
    return (
        f"ended with exit code {code} before it began (a script that searches with a time limit does so below "
        "`if __name__ == '__main__':`, for the agent's process imports it)"
    )


def _error(name: str, last: Mapping[str, Any], kept: str) -> AdsGymError:
    """What an agent raised: an error of ours as it would be without a process of its own, with a note where from."""
    kind = getattr(errors, str(last["kind"]), None)
    if isinstance(kind, type) and issubclass(kind, AdsGymError):
        error: AdsGymError = kind(last["message"])
        if last["traceback"]:
            error.add_note(f"In the process of agent {name}:\n{last['traceback'].rstrip()}")
        return error
    return AgentFailed(" ".join(filter(None, (f"agent {name} failed.", kept, TRACEBACK))) + last["traceback"].rstrip())
