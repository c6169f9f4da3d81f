"""One run of a benchmark, in a process of its own; and what is measured of each supernet before."""

import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ads_gym.agents.registry import find_agent
from ads_gym.benchmark.records import Missing, Plan, Played, Supernet
from ads_gym.errors import AdsGymError, InvalidValue
from ads_gym.evaluators.base import BaseEvaluator, LazyEvaluator
from ads_gym.evaluators.table import TableEvaluator, every_mask
from ads_gym.problem import Problem, make_problem
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.record import Row, best_of, read_record
from ads_gym.runs.runner import search

RANDOM_MASKS = 256  # of whose objectives the mean is the lower end of every score


class Job(NamedTuple):
    """A run that is to be played."""

    plan: Plan
    supernet: str  # what its task is loaded by
    agent: str
    seed: int
    folder: Path  # of the run
    store: Path  # of the supernet's evaluations
    device: str
    data_root: Path | None


def play(job: Job) -> Played | Missing:
    """Play a run, go on with it, or read it where it is over; an agent's mistake is told, and ends nothing else."""
    plan = job.plan
    try:
        result = search(
            job.supernet,
            job.agent,
            plan.evaluations,
            seed=job.seed,
            cost_weight=weight_of(plan),
            reward=plan.reward,
            max_macs=plan.max_macs,
            weights=plan.weights,
            device=job.device,
            data_root=job.data_root,
            run=job.folder,
            store=job.store,
            agent_options={} if plan.start is None or not _can_start(job.agent) else {"start": plan.start},
            progress=False,
        )
        manifest = RunFolder(job.folder).read()
        with read_record(RunFolder(job.folder).record) as record:
            rows = record.rows(result.architecture.topology)
    except AdsGymError as error:
        return Missing(job.supernet, job.agent, job.seed, str(error))
    except Exception:
        return Missing(job.supernet, job.agent, job.seed, traceback.format_exc(limit=-5))
    seconds = 0.0 if manifest is None or manifest.agent_seconds is None else manifest.agent_seconds
    best = best_of(rows)
    return Played(
        job.supernet,
        job.agent,
        job.seed,
        improvements(rows),
        best.mask.hex(),
        result.evaluations,
        result.charged,
        seconds,
    )


def improvements(rows: Sequence[Row]) -> tuple[tuple[int, float], ...]:
    """After how much of the budget the best objective rose, and to what."""
    found: list[tuple[int, float]] = []
    for row in rows:
        if not found or row.objective > found[-1][1]:
            found.append((row.spent, row.objective))
    return tuple(found)


def measure(plan: Plan, task: str, name: str, store: Path, device: str, data_root: Path | None) -> Supernet:
    """Score random masks of a supernet; where it has a table, find the optimum in it."""
    problem = problem_of(plan, name, store, device, data_root)
    try:
        rng = np.random.default_rng(0)
        masks = np.stack([problem.sample(rng) for _ in range(RANDOM_MASKS)])
        problem.score(masks[:1])  # reads weights and data
        began = time.perf_counter()
        scored = [each.objective for each in problem.score(masks)]
        seconds = (time.perf_counter() - began) / len(masks)
        return Supernet(task, name, float(np.mean(scored)), float(np.std(scored)), _optimum(problem), seconds)
    finally:
        problem.close()


def problem_of(plan: Plan, name: str, store: Path | None, device: str, data_root: Path | None) -> Problem:
    """What is searched on a supernet."""
    return make_problem(
        name,
        weights=plan.weights,
        reward=plan.reward,
        cost_weight=weight_of(plan),
        max_macs=plan.max_macs,
        store=store,
        device=device,
        data_root=data_root,
    )


def weight_of(plan: Plan) -> float | str:
    """The cost weight, a number where it is one."""
    try:
        return float(plan.cost_weight)
    except ValueError:
        return plan.cost_weight


def lacks(plan: Plan, name: str, agent: str) -> str | None:
    """Why an agent cannot play on a supernet; None where it can."""
    problem, player = problem_of(plan, name, None, "cpu", None), find_agent(agent)
    try:
        player.check_problem(problem)
    except InvalidValue as error:
        return str(error)
    finally:
        problem.close()
    return None


def _optimum(problem: Problem) -> float | None:
    """The best objective of all masks that fit, where a table has them."""
    evaluator: BaseEvaluator = problem.evaluator
    if isinstance(evaluator, LazyEvaluator):
        evaluator = evaluator.inner
    inner = getattr(evaluator, "inner", evaluator)
    if not isinstance(inner, TableEvaluator):
        return None
    masks = every_mask(problem.topology.size)
    return max(each.objective for each in problem.score(masks[problem.fits(masks)]))


def _can_start(agent: str) -> bool:
    """Whether an agent has the option `start`."""
    try:
        find_agent(agent).check_options({"start": None})
    except AdsGymError:
        return False
    return True
