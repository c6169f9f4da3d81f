"""Drive an agent until its budget is spent: the same in the process that searches and in one of the agent's own."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym

from ads_gym.agents.registry import Kind
from ads_gym.errors import BudgetExhausted, InvalidValue, shown
from ads_gym.problem import Problem
from ads_gym.records import Masks, check
from ads_gym.runs.open_run import Job
from ads_gym.runs.recorder import Budget, BudgetedEnv, BudgetedVectorEnv
from ads_gym.topology import as_array

ENVIRONMENT = "ads_gym:DenseNetSparsify-v0"
MAX_STEPS = 10**9  # what policies are told to learn for: the budget ends them, and no schedule may depend on it


def drive(job: Job, budget: Budget, policy: Callable[[], Path]) -> None:
    """Let an agent search until the budget is spent, or until it ends by itself.

    Args:
        job: its problem's evaluator ends the budget.
        budget: of that evaluator.
        policy: called where a trained policy is to be saved; returns its path.
    """
    if job.agent.kind is Kind.OPTIMISER:
        optimise(job)
    else:
        step_environment(job, budget, policy)


def optimise(job: Job) -> None:
    """Ask an optimiser for masks, and tell it their scores, until the budget is spent or it asks for none."""
    name, problem = job.agent.name, job.problem
    with suppress(BudgetExhausted):
        optimiser = job.agent.build(problem, job.seed, job.options)
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


def step_environment(job: Job, budget: Budget, policy: Callable[[], Path]) -> None:
    """Let a policy learn, or a function play, in an environment until the budget is spent."""
    env = make_environment(job, job.problem, budget)
    learned: Any = None
    try:
        if job.agent.kind is Kind.POLICY:
            learned = job.agent.build(env, job.seed, job.options)
            learned.learn(MAX_STEPS)
        else:
            job.agent.make(env, job.seed, **job.options)
    except BudgetExhausted:
        pass
    finally:
        env.close()
    if hasattr(learned, "save") and hasattr(type(learned), "load"):
        learned.save(policy())


def make_environment(job: Job, problem: Problem, budget: Budget) -> Any:
    """Make a single environment, or the vector environment that the agent asks for."""
    keywords: dict[str, Any] = {"problem": problem, "decision": job.decision}
    if job.agent.observation is not None:
        keywords["observation"] = job.agent.observation
    if job.agent.num_envs is None:
        return BudgetedEnv(gym.make(ENVIRONMENT, disable_env_checker=True, **keywords), budget)
    return BudgetedVectorEnv(gym.make_vec(ENVIRONMENT, job.agent.num_envs, **keywords), budget)
