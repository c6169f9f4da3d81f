"""`search`: let an agent search until its budget is spent, record it in a run folder, and report the best."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ads_gym import files
from ads_gym.agents.registry import Kind, find_agent
from ads_gym.envs.episode import Decision
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.store import EvaluationStore
from ads_gym.objective import Reward
from ads_gym.problem import Problem, make_problem
from ads_gym.records import Number, Seconds, Seed, checked
from ads_gym.runs.child import check_agent
from ads_gym.runs.comparison import compare
from ads_gym.runs.folder import RunFolder, default_folder, now
from ads_gym.runs.identity import Identity, identify
from ads_gym.runs.open_run import Job, OpenRun, open_run
from ads_gym.runs.pictures import draw_pictures
from ads_gym.runs.play import play
from ads_gym.runs.record import to_csv
from ads_gym.runs.result import Evaluations, SearchResult
from ads_gym.runs.stored_result import stored_result
from ads_gym.tasks import Task
from ads_gym.topology import BoolArray

__all__ = ["SearchResult", "find_best", "search"]


@checked
def search(  # noqa: PLR0913 - its keywords are its user interface
    task: str | Path | Task = "digits",
    agent: Any = "bayes",
    evaluations: Evaluations = 128,
    *,
    seed: Seed = 0,
    cost_weight: float | str = "even",
    reward: str | Reward = "soft",
    max_macs: Number | None = None,
    scope: str = "layers",
    decision: str | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    run: str | Path | None = None,
    restart: bool = False,
    store: str | Path | EvaluationStore | None = None,
    agent_options: Mapping[str, Any] | None = None,
    evaluator: Any = None,
    weights: str | None = None,
    time_limit: Seconds | None = None,
    progress: bool = True,
) -> SearchResult:
    """Let an agent search until it has spent a budget of evaluations, and keep the best network that it saw.

    Every evaluation is in the run folder before the agent hears of it. A run that was killed or interrupted goes on
    when the same call is made again, and ends with the same result; a larger budget extends it; a run that is over, and
    a smaller budget, are answered from the record. What a run is a run of (weights, data, reward, the agent's code and
    options, seed, ...) is kept with it: a call in which any of that is different begins another run. TEST is never
    read.

    Args:
        task: a name, a folder, or a `Task`.
        agent: a registered name, "module:name", a class with `learn` (a policy), a class with `ask` and `tell` (an
            optimiser), or a function `play(env, seed, **options)`; see `ads_gym.agents.base`.
        evaluations: the budget: so many masks are evaluated, unless 20 times as many episodes come first.
        seed: of the agent.
        cost_weight: what relative cost 1 takes off the reward, 0 to 100; "even": dense and chain have one objective.
        reward: "accuracy", "soft" (mean probability of the true class), "loss" (negated), "module:name" or a function.
        max_macs: limit on MACs / dense MACs, or None.
        scope: "layers", or "all" (connections into transitions and the classifier too).
        decision: "connection" (default), "layer" or "network": how many a step of the environment decides. Not for
            optimisers, which choose whole masks.
        device: of the evaluator: "auto", "cpu", "cuda".
        data_root: where data sets lie.
        run: the run folder; default runs/<task>-<agent>-s<seed>-<8 hex of what it is a run of>.
        restart: play a run that is there already again; the old folder is kept under another name.
        store: a file or `EvaluationStore` of evaluations that is shared with others.
        agent_options: keywords for the agent.
        evaluator: None (the task's), "planted:KIND:SEED", "module:name" (called with task and scope) or an evaluator.
        weights: with which the task's evaluator scores networks while the agent searches: "repaired" (in closed form)
            or "inherited", a few times as fast; None: repaired, unless another evaluator is given. The network that is
            written is repaired in any case.
        time_limit: wall seconds that the agent may take, evaluations among them, in a process of its own that gets no
            evaluator, no task and no store (`ads_gym.runs.child`); then it is ended, and the same call goes on. None:
            no limit, and no other process. What is recorded is the same.
        progress: whether to show progress on stderr.

    Raises:
        AdsGymError: bad arguments; a run folder of another run, damaged, held by another process, or on a full disk.
        TimeLimit, AgentFailed: the agent took longer than its time limit, or failed in its own process.
    """
    options = agent_options or {}
    player = find_agent(agent)
    player.check_options(options)
    if decision is not None and player.kind is Kind.OPTIMISER:
        raise InvalidValue(f"agent {player.name} is an optimiser and chooses whole masks: leave decision out.")
    if time_limit is not None:
        check_agent(player, options)
    problem = make_problem(
        task,
        scope=scope,
        device=device,
        evaluator=evaluator,
        weights=weights,
        store=store,
        reward=reward,
        cost_weight=cost_weight,
        max_macs=max_macs,
        data_root=data_root,
    )
    job = Job(problem, player, options, Decision.CONNECTION if decision is None else Decision(decision), seed)
    aside = None
    try:
        player.check_problem(problem)
        identity = identify(problem, reward, player, agent, options, str(job.decision), seed)
        folder = run_folder(job, identity, run)
        if restart and files.exists(folder.manifest):  # one that cannot be read is set aside too
            with files.locked(folder.path, "searching"):
                aside = folder.set_aside()
        if (stored := stored_result(folder, identity, problem, evaluations, seed)) is not None:
            return stored
        with open_run(folder, job, identity, evaluations) as opened:
            play(opened, progress, time_limit)
            return close_run(opened)
    except BaseException:
        if aside is not None:
            folder.bring_back(aside)
        raise
    finally:
        problem.close()


def find_best(
    problem: Problem, agent: Any, evaluations: int, folder: Path, *, seed: int = 0, progress: bool = True
) -> BoolArray:
    """Let an agent search as `search` does, and return the best mask bool [E]; nothing is compared with it or drawn.

    Args:
        problem: what is searched.
        agent: see `search`.
        evaluations: the budget.
        folder: of the run. A search that was killed goes on there.
        seed: of the agent.
        progress: whether to show progress on stderr.

    Raises:
        AdsGymError: as `search`.
    """
    player = find_agent(agent)
    player.check_problem(problem)
    reward = problem.objective.function
    job = Job(problem, player, {}, Decision.CONNECTION, seed)
    identity = identify(problem, reward, player, agent, {}, str(job.decision), seed)
    with open_run(RunFolder(folder), job, identity, evaluations) as opened:
        play(opened, progress)
        return problem.topology.mask(opened.best().mask)


def run_folder(job: Job, identity: Identity, run: str | Path | None) -> RunFolder:
    """Return the folder that was asked for, or the default one.

    Raises:
        InvalidValue: no folder was given, and no other process could tell this run from others.
    """
    if run is not None:
        return RunFolder(files.resolve(run))
    if identity.unnamed:
        unnamed = " and ".join(f"{what} {name}" for what, name in identity.unnamed.items())
        raise InvalidValue(
            f"{unnamed} cannot be told from others of that name by another process: name a run folder (run=...), or "
            "use a class or function at the top of a module."
        )
    return default_folder(job.problem.name, job.agent.name, job.seed, identity)


def close_run(run: OpenRun) -> SearchResult:
    """Compare the best with dense, chain and random; write it, its network and the pictures; end the run."""
    best, problem = run.best(), run.problem
    architecture = problem.architecture(problem.topology.mask(best.mask))
    result = SearchResult(
        run.folder.path,
        architecture,
        best.metrics,
        best.objective,
        len(run.rows),
        run.episodes,
        run.stopped_by,
        compare(problem, architecture.mask, run.job.seed),
        charged=run.charged,
    )
    run.write_best(best)
    if problem.network is not None and problem.task is not None:
        from ads_gym.nets.sparse import save

        save(problem.task.repair(architecture), run.folder.best)
    draw_pictures(run.folder.pictures, run.rows, result)
    files.write_file(run.folder.history, to_csv(run.rows))
    run.write(result=result.to_record(), ended=now(), agent_seconds=run.agent_seconds)
    return result
