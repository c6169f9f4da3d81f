"""`search`: let an agent search until its budget is spent, record it in a run folder, and report the best."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym

from ads_gym import files
from ads_gym.agents.registry import Kind, LoadedAgent, find_agent
from ads_gym.envs.episode import Decision
from ads_gym.errors import AdsGymError, BudgetExhausted, DamagedFile, InvalidValue, shown
from ads_gym.evaluators.store import EvaluationStore
from ads_gym.objective import Reward
from ads_gym.problem import Problem, make_problem
from ads_gym.records import Masks, Number, Seed, check, checked
from ads_gym.runs.comparison import compare
from ads_gym.runs.folder import (
    Manifest,
    RunFolder,
    check_circumstances,
    check_identity,
    circumstances,
    default_folder,
    now,
    place_of,
)
from ads_gym.runs.identity import Identity, identify
from ads_gym.runs.progress import ProgressLine, Scalars
from ads_gym.runs.record import Row, RunRecord, best_of, to_csv
from ads_gym.runs.recorder import (
    BudgetedEnv,
    BudgetedVectorEnv,
    Recorder,
    StoppedBy,
)
from ads_gym.runs.report import draw_pictures
from ads_gym.runs.result import Evaluations, SearchResult
from ads_gym.runs.stored_result import stored_result
from ads_gym.tasks import Task
from ads_gym.topology import BoolArray, as_array

__all__ = ["SearchResult", "find_best", "search"]

ENVIRONMENT = "ads_gym:DenseNetSparsify-v0"
MAX_STEPS = 10**9  # what policies are told to learn for: the budget ends them, and no schedule may depend on it


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
        progress: whether to show progress on stderr.

    Raises:
        AdsGymError: bad arguments; a run folder of another run, damaged, held by another process, or on a full disk.
    """
    options = agent_options or {}
    player = find_agent(agent)
    player.check_options(options)
    if decision is not None and player.kind is Kind.OPTIMISER:
        raise InvalidValue(f"agent {player.name} is an optimiser and chooses whole masks: leave decision out.")
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
        identity = identify(problem, reward, player, agent, options, str(job.decision), seed)
        folder = run_folder(job, identity, run)
        if restart and files.exists(folder.manifest):  # one that cannot be read is set aside too
            with files.locked(folder.path, "searching"):
                aside = folder.set_aside()
        if (stored := stored_result(folder, identity, problem, evaluations, seed)) is not None:
            return stored
        with open_run(folder, job, identity, evaluations) as opened:
            play(opened, progress)
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
    reward = problem.objective.function
    job = Job(problem, player, {}, Decision.CONNECTION, seed)
    identity = identify(problem, reward, player, agent, {}, str(job.decision), seed)
    with open_run(RunFolder(folder), job, identity, evaluations) as opened:
        play(opened, progress)
        if not opened.rows:
            raise InvalidValue(f"agent {player.name} ended before a single network was evaluated.")
        return problem.topology.mask(best_of(opened.rows).mask)


@dataclass(frozen=True)
class Job:
    """What is solved, by whom.

    Args:
        problem: what is solved; its evaluator knows nothing of the run.
        agent: who solves it.
        options: its keywords.
        decision: of the environment, where it plays one.
        seed: of the agent.
    """

    problem: Problem
    agent: LoadedAgent
    options: Mapping[str, Any]
    decision: Decision
    seed: int


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


@dataclass
class OpenRun:
    """A run folder while one process plays in it."""

    folder: RunFolder
    job: Job
    manifest: Manifest
    problem: Problem  # its evaluator looks up and stores metrics, and counts no evaluations
    may_differ: bool  # whether a replay may ask for other masks than the record has
    record: RunRecord
    rows: list[Row]
    stopped_by: StoppedBy = StoppedBy.AGENT
    episodes: int = 0

    def write(self, **changes: Any) -> None:
        """Change entries of the manifest."""
        self.manifest = replace(self.manifest, **changes)
        self.folder.write(self.manifest)

    def differ(self, number: int) -> None:
        """Note the first evaluation that a replay did not repeat.

        Raises:
            InvalidValue: the agent may be another one than the record's, for no name stands for it.
        """
        if not self.may_differ:
            raise InvalidValue(
                f"evaluation {number} in {self.folder.path} is of another mask than this agent asks for, and no name "
                f"tells whether {self.job.agent.name} is the agent that it was recorded for: give another run folder, "
                "or restart (restart=True), which keeps the old one under another name."
            )
        self.write(differs_at=self.manifest.differs_at or number)

    def write_best(self, best: Row) -> None:
        """Write the best architecture so far."""
        mask = self.problem.topology.mask(best.mask)
        weights = self.folder.best.with_suffix(".safetensors")
        with files.file_errors(weights, "removed"):
            weights.unlink(missing_ok=True)  # of an earlier best: never beside this one
        files.write_file(self.folder.best, self.problem.architecture(mask).to_json() + "\n")


@contextmanager
def open_run(folder: RunFolder, job: Job, identity: Identity, evaluations: int) -> Iterator[OpenRun]:
    """Begin a run, or open one that is to go on; nothing is written before all of it is found to fit.

    A run that began here and fails before it recorded anything leaves nothing: what it failed at (an agent's options,
    most often) is put right, and would not fit the folder then.
    """
    with files.locked(folder.path, "searching"):
        circumstances_now = circumstances()
        manifest = folder.read()
        begins = manifest is None
        if manifest is None:
            folder.check_empty()
            manifest = Manifest(identity.parts, evaluations, circumstances_now, now())
        else:
            check_identity(folder.path, manifest, identity)
            if manifest.result is not None and not files.exists(folder.record):
                raise DamagedFile(
                    f"the run in {folder.path} has a result and no {folder.record.name}: bring it back, give another "
                    "run folder, or restart (restart=True), which keeps the old one under another name."
                )
            check_circumstances(folder.path, manifest, circumstances_now)
        opened = None
        try:
            if begins:  # before the record, so that whatever a kill leaves belongs to this run
                folder.write(manifest)
            with RunRecord(folder.record) as record:
                opened = _opened(folder, job, manifest, identity, record, evaluations)
                yield opened
        except Exception:  # after Ctrl-C the same call goes on
            if begins and not (opened and opened.rows):
                with suppress(AdsGymError):  # what went wrong first is what is told
                    folder.remove()
            raise
        finally:
            if opened and opened.rows:
                with suppress(AdsGymError):
                    files.write_file(folder.history, to_csv(opened.rows))


def _opened(
    folder: RunFolder, job: Job, manifest: Manifest, identity: Identity, record: RunRecord, evaluations: int
) -> OpenRun:
    problem = job.problem.stored_in(record)
    may_differ = "agent" not in identity.unnamed
    opened = OpenRun(
        folder,
        job,
        manifest,
        problem,
        may_differ,
        record,
        record.history(problem.evaluator.fingerprint, problem.topology),
    )
    if len(opened.rows) > evaluations:
        raise InvalidValue(
            f"the run in {folder.path} has {len(opened.rows)} evaluations, more than the {evaluations} asked for, and "
            "its agent or reward has no name by which its record could answer: ask for more, or give another folder."
        )
    task = job.problem.task
    root = getattr(task, "data_root", None)
    opened.write(
        budget=evaluations,
        result=None,
        ended=None,
        data_root=None if root is None else str(root),
        **place_of(task, folder.path),
    )
    return opened


def play(run: OpenRun, progress: bool) -> None:
    """Let the agent search from its first step until the budget is spent; the record answers what it has already."""
    budget = run.manifest.budget
    with Scalars(run.folder.tensorboard) as scalars, ProgressLine(budget, len(run.rows), progress) as line:
        paid = replace(run.problem, evaluator=run.job.problem.evaluator)  # the recorder itself stores what it gives
        recorder = Recorder(paid, run.record, budget, on_rows=watch(run, scalars, line), on_difference=run.differ)
        run.rows = recorder.rows
        problem = replace(run.problem, evaluator=recorder)
        try:
            (optimise if run.job.agent.kind is Kind.OPTIMISER else step_environment)(run, problem, recorder)
        finally:
            run.episodes = recorder.episodes
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
        line.update(rows[-1].number, leader)

    return update


def close_run(run: OpenRun) -> SearchResult:
    """Compare the best with dense, chain and random; write it, its network and the pictures; end the run."""
    if not run.rows:
        raise InvalidValue(f"agent {run.job.agent.name} ended before a single network was evaluated.")
    best, problem = best_of(run.rows), run.problem
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
    )
    run.write_best(best)
    if problem.network is not None and problem.task is not None:
        from ads_gym.nets.sparse import save

        save(problem.task.repair(architecture), run.folder.best)
    draw_pictures(run.folder.pictures, run.rows, result)
    files.write_file(run.folder.history, to_csv(run.rows))
    run.write(result=result.to_record(), ended=now())
    return result
