"""One run of a benchmark, in a process of its own; and what is measured of each supernet before."""

import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ads_gym.agents.starts import RANKINGS
from ads_gym.benchmark.entrants import Entrant, find_entrant
from ads_gym.benchmark.places import Place
from ads_gym.benchmark.records import Missing, Plan, Played, Supernet, missing
from ads_gym.benchmark.statistics import RANDOM_MASKS, Floats, hypervolume
from ads_gym.errors import AdsGymError, InvalidValue, StorageError
from ads_gym.evaluators.table import TableEvaluator, every_mask
from ads_gym.objective import check_cost_weight, find_reward
from ads_gym.problem import Problem, make_problem
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.record import Row, best_of, read_record
from ads_gym.runs.runner import search

TIMED_MASKS = 32
SEEDS = {"random": 0, "timed": 1}  # of masks


class Job(NamedTuple):
    """A run that is to be played."""

    plan: Plan
    place: Place
    agent: str
    seed: int
    folder: Path  # of the run


def play(job: Job) -> Played | Missing:
    """Play a run, go on with it, or read it where it is over; an agent's mistake is told, and ends nothing else.

    Raises:
        StorageError: no space, no permission, or another process that plays it: no mistake of the agent's.
    """
    plan, place = job.plan, job.place
    try:
        entrant = find_entrant(job.agent)
        result = search(
            place.reference,
            entrant.agent.name,
            plan.evaluations,
            seed=job.seed,
            cost_weight=plan.cost_weight if plan.cost_weight == "even" else float(plan.cost_weight),
            reward=plan.reward,
            max_macs=plan.max_macs,
            weights=plan.weights,
            device=place.device,
            data_root=place.data_root,
            run=job.folder,
            store=place.store,
            agent_options=entrant.options | ({"start": plan.start} if starts(plan, entrant) else {}),
            time_limit=plan.time_limit if entrant.is_stranger else None,
            progress=False,
        )
        manifest = RunFolder(job.folder).read()
        with read_record(RunFolder(job.folder).record) as record:
            rows = record.rows(result.architecture.topology)
    except StorageError:
        raise
    except AdsGymError as error:
        return missing(place.name, job.agent, job.seed, str(error))
    except (Exception, SystemExit):
        return missing(place.name, job.agent, job.seed, traceback.format_exc(limit=-5))
    return Played(
        place.name,
        job.agent,
        job.seed,
        improvements(rows),
        best_of(rows).mask.hex(),
        result.evaluations,
        result.charged,
        area(plan, rows),
        0.0 if manifest is None or manifest.agent_seconds is None else manifest.agent_seconds,
    )


def improvements(rows: Sequence[Row]) -> tuple[tuple[int, float], ...]:
    """After how much of the budget the best objective rose, and to what."""
    found: list[tuple[int, float]] = []
    for row in rows:
        if not found or row.objective > found[-1][1]:
            found.append((row.spent, row.objective))
    return tuple(found)


def area(plan: Plan, rows: Sequence[Row]) -> float:
    """The hypervolume of all that a run evaluated: relative cost against reward."""
    reward = find_reward(plan.reward)
    costs = np.array([row.metrics.relative_cost for row in rows])
    return hypervolume(costs, np.array([reward(row.metrics) for row in rows]))


class Measured(NamedTuple):
    """What is known of a supernet before agents play on it."""

    supernet: Supernet
    lacking: dict[str, str]  # agent -> what it needs and is not there


def measure(plan: Plan, place: Place) -> Measured:
    """Score random masks of a supernet, and time some; where it has a table, find the optimum in it."""
    stored, plain = problem_of(plan, place), problem_of(plan, place._replace(store=None))
    try:
        supernet = Supernet(
            place.task,
            place.name,
            place.reference != place.name,
            *random_scores(stored),
            optimum_of(plain),
            _seconds(plain, place.device),
        )
        found = ((agent, lacks(plan, plain, agent)) for agent in plan.agents)
        return Measured(supernet, {agent: why for agent, why in found if why is not None})
    finally:
        stored.close()
        plain.close()


def random_scores(problem: Problem) -> tuple[float, float]:
    """Mean and standard deviation of the objectives of random masks, always the same ones."""
    found = _objectives(problem, draw(problem, RANDOM_MASKS, SEEDS["random"]))
    return float(found.mean()), float(found.std())


def problem_of(plan: Plan, place: Place) -> Problem:
    """What is searched on a supernet."""
    return make_problem(
        place.reference,
        weights=plan.weights,
        reward=plan.reward,
        cost_weight=check_cost_weight(plan.cost_weight),
        max_macs=plan.max_macs,
        store=place.store,
        device=place.device,
        data_root=place.data_root,
    )


def lacks(plan: Plan, problem: Problem, agent: str) -> str | None:
    """What an agent needs, or begins with, and a problem has not; None where it can play."""
    entrant = find_entrant(agent)
    try:
        entrant.agent.check_problem(problem)
    except InvalidValue as error:
        return str(error)
    if starts(plan, entrant) and plan.start in RANKINGS and problem.network is None:
        return f"{plan.start} ranks connections of a trained network, and {problem.name} has none to start at."
    return None


def starts(plan: Plan, entrant: Entrant) -> bool:
    """Whether an agent begins where the plan says, instead of where it does by itself."""
    return plan.start is not None and entrant.agent.has_option("start") and "start" not in entrant.options


def draw(problem: Problem, count: int, seed: int) -> np.ndarray:
    """Return random masks bool [count, E] that fit."""
    rng = np.random.default_rng(seed)
    return np.stack([problem.sample(rng) for _ in range(count)])


def _objectives(problem: Problem, masks: np.ndarray) -> Floats:
    return np.array([each.objective for each in problem.score(masks)])


def _seconds(problem: Problem, device: str) -> float:
    """What an evaluation takes: on a CPU its CPU time, which other processes do not change."""
    masks = draw(problem, TIMED_MASKS, SEEDS["timed"])
    problem.score(masks[:1])  # reads weights and data
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    problem.score(masks)
    return (clock() - began) / len(masks)


def optimum_of(problem: Problem) -> float | None:
    """The best objective of all masks that fit, where a table has them."""
    inner = getattr(problem.evaluator, "inner", problem.evaluator)
    if not isinstance(inner, TableEvaluator):
        return None
    masks = every_mask(problem.topology.size)
    return float(_objectives(problem, masks[problem.fits(masks)]).max())
