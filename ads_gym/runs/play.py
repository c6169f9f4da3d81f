"""An agent plays in an open run, from its first step until the budget is spent."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gymnasium as gym

from ads_gym.agents.registry import Kind
from ads_gym.errors import BudgetExhausted, InvalidValue, shown
from ads_gym.problem import Problem
from ads_gym.records import Masks, check
from ads_gym.runs.open_run import Job, OpenRun
from ads_gym.runs.progress import ProgressLine, Scalars
from ads_gym.runs.record import Row, best_of
from ads_gym.runs.recorder import BudgetedEnv, BudgetedVectorEnv, Recorder, StoppedBy
from ads_gym.topology import as_array

ENVIRONMENT = "ads_gym:DenseNetSparsify-v0"
MAX_STEPS = 10**9  # what policies are told to learn for: the budget ends them, and no schedule may depend on it


def play(run: OpenRun, progress: bool) -> None:
    """Let the agent search from its first step until the budget is spent; the record answers what it has already."""
    budget = run.manifest.budget
    recorded = run.rows[-1].spent if run.rows else 0
    with Scalars(run.folder.tensorboard) as scalars, ProgressLine(budget, recorded, progress) as line:
        paid = replace(run.problem, evaluator=run.job.problem.evaluator)  # the recorder itself stores what it gives
        recorder = Recorder(paid, run.record, budget, on_rows=watch(run, scalars, line), on_difference=run.differ)
        run.rows = recorder.rows
        problem = replace(run.problem, evaluator=recorder, charge=recorder.charge, charged_time=recorder.charged_time)
        began = time.process_time()
        try:
            (optimise if run.job.agent.kind is Kind.OPTIMISER else step_environment)(run, problem, recorder)
        finally:
            run.episodes, run.charged = recorder.episodes, recorder.charged
            run.agent_seconds = time.process_time() - began - recorder.cpu_seconds
    if recorder.next_to_repeat is not None and not run.may_differ:
        run.differ(recorder.next_to_repeat)
    run.stopped_by = recorder.stopped_by or StoppedBy.AGENT


def optimise(run: OpenRun, problem: Problem, recorder: Recorder) -> None:
    """Ask an optimiser for masks, and tell it their scores, until the budget is spent or it asks for none."""
    name = run.job.agent.name
    with suppress(BudgetExhausted):
        optimiser = run.job.agent.build(problem, run.job.seed, run.job.options)
        size = check(getattr(optimiser, "batch_size", 1), Masks, f"batch_size of agent {name}")
        while len(masks := check_asked(optimiser.ask(size), name)):
            optimiser.tell(masks, problem.score(masks))


def check_asked(masks: Any, name: str) -> Any:
    """Return what an optimiser asked for as an array; its shape and type are checked where it is scored.

    Raises:
        InvalidValue: no array, or none of masks.
    """
    array = as_array(f"the masks that agent {name} asks for", masks)
    if array.ndim == 0:
        raise InvalidValue(
            f"ask of agent {name} should return masks, bool [n, E] (n = 0: the end), got {shown(masks)}."
        )
    return array


def step_environment(run: OpenRun, problem: Problem, recorder: Recorder) -> None:
    """Let a policy learn, or a function play, in an environment until the budget is spent."""
    job = run.job
    env = make_environment(job, problem, recorder)
    policy: Any = None
    try:
        if job.agent.kind is Kind.POLICY:
            policy = job.agent.build(env, job.seed, job.options)
            policy.learn(MAX_STEPS)
        else:
            job.agent.make(env, job.seed, **job.options)
    except BudgetExhausted:
        pass
    finally:
        env.close()
    if hasattr(policy, "save") and hasattr(type(policy), "load"):
        policy.save(run.folder.policy)


def make_environment(job: Job, problem: Problem, recorder: Recorder) -> Any:
    """Make a single environment, or the vector environment that the agent asks for."""
    keywords: dict[str, Any] = {"problem": problem, "decision": job.decision}
    if job.agent.observation is not None:
        keywords["observation"] = job.agent.observation
    if job.agent.num_envs is None:
        return BudgetedEnv(gym.make(ENVIRONMENT, disable_env_checker=True, **keywords), recorder)
    return BudgetedVectorEnv(gym.make_vec(ENVIRONMENT, job.agent.num_envs, **keywords), recorder)


def watch(run: OpenRun, scalars: Scalars, line: ProgressLine) -> Callable[[Sequence[Row]], None]:
    """Return what is called with each batch of new rows: it updates best.json, TensorBoard and the progress line."""
    best = best_of(run.rows) if run.rows else None

    def update(rows: Sequence[Row]) -> None:
        nonlocal best
        leader = best_of(rows if best is None else [best, *rows])
        if leader is not best:
            best = leader
            run.write_best(best)
        scalars.write(rows, leader)
        line.update(rows[-1].spent, leader)

    return update
