"""Check an agent before it plays in earnest: what is asked of one, tried in short runs."""

import inspect
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ads_gym.agents.base import Needs
from ads_gym.agents.registry import Kind, LoadedAgent, find_agent
from ads_gym.benchmark.entrants import find_entrant
from ads_gym.benchmark.trials import Mistake, Trial, Trials, mistake, rival
from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue
from ads_gym.problem import Problem, make_problem
from ads_gym.records import Name, Seconds, Text, checked, record
from ads_gym.runs.recorder import StoppedBy
from ads_gym.runs.step_lines import StepLines

EVALUATIONS = 64  # of a run
SECONDS = 20.0  # of the agent's process in each run
PLANTED, TABLE = "planted-45", "digits-table"  # a hidden mask; a network, all of whose architectures are scored
RIVALS = ("density", "random", "local")
RIVALS_SEEDS = 3  # whose mean they are compared by
LIMIT = 0.7  # of relative MACs, in the run with one
MOST_REPEATED = 0.5  # of the masks that are asked for
MOST_SECONDS = 1.0  # of CPU for an evaluation

Budget = Annotated[int, Field(ge=4, le=10_000)]


class Outcome(Choice, what="outcome of a check"):
    """What came of a check."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"


@record
class Check:
    """One thing that was looked at."""

    name: Name
    outcome: Outcome
    found: Text
    advice: Text = ""  # what to do
    details: Annotated[str, Field(max_length=100_000)] = ""  # a traceback


@record
class AgentReport:
    """All that was found; after a failure without which nothing else can be tried, no more."""

    agent: Name
    checks: Annotated[tuple[Check, ...], Field(max_length=100)]

    @property
    def has_failed(self) -> bool:
        """Whether any check failed."""
        return any(check.outcome is Outcome.FAILED for check in self.checks)


@checked
def check_agent(
    agent: str, *, evaluations: Budget = EVALUATIONS, time_limit: Seconds = SECONDS, progress: bool = True
) -> AgentReport:
    """Check an agent in some short runs: contract, seeds, going on, masks, time, and its place among others.

    Args:
        agent: a registered name or "module:name", with options as "name?flips=2&parents=4".
        evaluations: the budget of each run.
        time_limit: wall seconds of the agent's own process in each run.
        progress: whether to show progress on stderr.

    Raises:
        AdsGymError: no temporary folder, an argument out of range. What is wrong with the agent is in the report.
    """
    checks: list[Check] = []
    with StepLines(progress).long(f"checking {agent}", "checks") as step:
        for check in _checks(agent, evaluations, time_limit):
            checks.append(check)
            step.update(len(checks), max(10, len(checks)))
    return AgentReport(agent, tuple(checks))


def _checks(agent: str, evaluations: int, time_limit: float) -> Iterator[Check]:
    """All checks, one after another, as far as the agent comes."""
    try:
        found = _contract(find_agent(agent.partition("?")[0]))
        entrant = find_entrant(agent)
    except (Exception, SystemExit) as error:  # its module may do anything when it is imported
        yield _failed("contract", mistake(error))
        return
    yield Check("contract", Outcome.PASSED, found)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ads-gym-")))
        trials = Trials(entrant, folder, time_limit)
        tasks = [TABLE] if entrant.agent.needs is not Needs.NOTHING else [PLANTED, TABLE]
        problems = {task: stack.enter_context(closing(_problem(task, None))) for task in tasks}
        first = trials.play("first", problems[tasks[0]], evaluations)
        if isinstance(first, Mistake):
            yield _failed("a whole run", first)
            return
        yield _whole_run(first, evaluations, trials.time_limit)
        if not first.rows:
            return
        yield from _repeated(trials, problems[tasks[0]], first, evaluations)
        yield _duplicates(first)
        limited = stack.enter_context(closing(_problem(tasks[0], LIMIT)))
        yield _within_limit(trials.play("limited", limited, evaluations), limited)
        yield _time(first)
        for task in tasks:
            played = first if task == tasks[0] else trials.play("other", problems[task], evaluations)
            yield _place(task, played, problems[task], evaluations)


def _problem(task: str, max_macs: float | None) -> Problem:
    return make_problem(task, weights=None, reward="soft", cost_weight="even", max_macs=max_macs)


def _failed(name: str, made: Mistake) -> Check:
    return Check(name, Outcome.FAILED, made.found[:4000], made.advice, made.details)


def _contract(agent: LoadedAgent) -> str:
    """What kind of agent it is.

    Raises:
        InvalidValue: a class that is none.
    """
    if agent.kind is Kind.FUNCTION and inspect.isclass(agent.make):
        has = [name for name in ("learn", "ask", "tell") if callable(getattr(agent.make, name, None))]
        lacking = {"ask": "tell", "tell": "ask"}.get("".join(has), "learn, or ask and tell")
        raise InvalidValue(
            f"{agent.name} is a class without {lacking}: give a policy `learn`, an optimiser `ask` and `tell`, or "
            "write a function play(env, seed)."
        )
    told = {
        Kind.POLICY: "a policy (learn)",
        Kind.OPTIMISER: "an optimiser (ask, tell)",
        Kind.FUNCTION: "a function play(env, seed)",
    }[agent.kind]
    told += "" if agent.num_envs is None else f", {agent.num_envs} environments"
    told += "" if agent.observation is None else f", observation {agent.observation}"
    return told if agent.needs is Needs.NOTHING else f"{told}, needs {agent.needs}"


def _whole_run(run: Trial, evaluations: int, time_limit: float | None) -> Check:
    """Whether it uses its budget."""
    name, found = "a whole run", f"{len(run.rows)} evaluations in {run.episodes} episodes"
    if not run.rows:
        return Check(name, Outcome.FAILED, "it ended before a single mask was scored", "play until BudgetExhausted")
    if run.stopped_by is StoppedBy.AGENT:
        return Check(
            name,
            Outcome.WARNING,
            f"it ended by itself after {len(run.rows)} of {evaluations} evaluations",
            "play until BudgetExhausted, unless it knows no more masks",
        )
    if time_limit is None:
        return Check(
            name, Outcome.WARNING, f"{found}; in no process of its own", "it needs the network: it has no time limit"
        )
    return Check(name, Outcome.PASSED, found)


def _repeated(trials: Trials, problem: Problem, first: Trial, evaluations: int) -> Iterator[Check]:
    """Whether the same seed gives the same run, in parts too, and another seed another one."""
    half = trials.play("again", problem, evaluations // 2)
    if isinstance(half, Mistake):
        yield _failed("same seed, same run", half)
        return
    if (place := _difference(half, first)) is not None:
        yield Check(
            "same seed, same run",
            Outcome.FAILED,
            f"evaluation {place} is of another mask in a second run",
            "draw all random numbers from `seed`; let nothing depend on time, threads or the order of a set",
        )
        yield Check("going on", Outcome.FAILED, "not tried", "first make it repeat itself")
    else:
        yield Check("same seed, same run", Outcome.PASSED, f"{len(half.rows)} evaluations of the same masks")
        yield _going_on(trials.play("again", problem, evaluations), first, len(half.rows))
    other = trials.play("other-seed", problem, evaluations, seed=1)
    if isinstance(other, Mistake):
        yield _failed("other seed, other run", other)
    elif other.masks == first.masks:
        yield Check(
            "other seed, other run",
            Outcome.WARNING,
            "seeds 0 and 1 give the same run",
            "if anything is drawn, draw it from `seed`; else several seeds tell no more than one",
        )
    else:
        yield Check("other seed, other run", Outcome.PASSED, "seeds 0 and 1 ask for different masks")


def _difference(half: Trial, first: Trial) -> int | None:
    """Number of the first evaluation of a shorter run that is of another mask; None: there is none."""
    longer = [*first.masks, *[b""] * len(half.rows)]
    return next((number for number, (a, b) in enumerate(zip(half.masks, longer, strict=False), 1) if a != b), None)


def _going_on(run: Trial | Mistake, first: Trial, stopped: int) -> Check:
    """Whether a run that was stopped ends as one that was not."""
    if isinstance(run, Mistake):
        return _failed("going on", run)
    if run.masks == first.masks:
        return Check("going on", Outcome.PASSED, f"stopped after {stopped} evaluations, it ends as if it had not been")
    return Check(
        "going on",
        Outcome.FAILED,
        f"stopped after {stopped} evaluations, it goes on with other masks",
        "keep nothing between runs, and let nothing depend on how long an evaluation takes or on the budget",
    )


def _duplicates(run: Trial) -> Check:
    """How many of the masks it had asked for before."""
    share = 1 - len(run.rows) / max(run.episodes, 1)
    found = f"{share:.0%} of {run.episodes} masks were asked for again".replace("%", " %", 1)
    if share > MOST_REPEATED:
        advice = "remember what was scored: a mask that is asked for again tells nothing, and 20 a budget end the run"
        return Check("repeated masks", Outcome.WARNING, found, advice)
    return Check("repeated masks", Outcome.PASSED, found)


def _within_limit(run: Trial | Mistake, problem: Problem) -> Check:
    """Whether it plays where MACs are limited."""
    name = f"max_macs {LIMIT:g}"
    if isinstance(run, Mistake):
        advice = "make masks fit with problem.project(mask, rng)" if "max_macs allows" in run.found else run.advice
        return _failed(name, run._replace(advice=advice))
    if not run.rows:
        return Check(name, Outcome.FAILED, "it scores no mask", "ask for smaller masks: problem.fits, problem.project")
    most = max(row.metrics.relative_macs for row in run.rows)
    return Check(name, Outcome.PASSED, f"{len(run.rows)} masks of at most {most:.3f}")


def _time(run: Trial) -> Check:
    """How long the agent itself takes."""
    seconds = run.agent_seconds / len(run.rows)
    found = f"{seconds:.2g} s of CPU for an evaluation, without what the network takes"
    if seconds > MOST_SECONDS:
        return Check("its own time", Outcome.WARNING, found, "evaluations take less: make it lighter")
    return Check("its own time", Outcome.PASSED, found)


def _place(task: str, run: Trial | Mistake, problem: Problem, evaluations: int) -> Check:
    """Where it stands among agents of ours."""
    if isinstance(run, Mistake):
        return _failed(task, run)
    if not run.rows:
        return Check(task, Outcome.FAILED, "it scores no mask", "play until BudgetExhausted")
    mine = max(row.objective for row in run.rows)
    others = {name: rival(name, problem, evaluations, RIVALS_SEEDS) for name in RIVALS}
    place = 1 + sum(value > mine for value in others.values())
    order = sorted(others.items(), key=lambda pair: -pair[1])
    found = f"{place} of {len(others) + 1}: {mine:.3f}; " + ", ".join(f"{name} {value:.3f}" for name, value in order)
    if mine <= others["random"]:
        return Check(task, Outcome.WARNING, found, "no better than random masks so far; one short run tells little")
    return Check(task, Outcome.PASSED, found)
