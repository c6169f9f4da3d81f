"""A search: an agent, a budget, a run folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ads_gym.agents.registry import find_agent
from ads_gym.architecture import Architecture
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import AdsGymError, BudgetExhausted, InvalidValue
from ads_gym.evaluators.base import Evaluator
from ads_gym.evaluators.store import EvaluationStore, StoredEvaluator
from ads_gym.objective import Reward, check_cost_weight
from ads_gym.runs.comparison import compare
from ads_gym.runs.folder import (
    Manifest,
    RunFolder,
    Settings,
    check_circumstances,
    check_settings,
    circumstances,
    write_whole,
)
from ads_gym.runs.history import History, Row, best_of
from ads_gym.runs.plan import Plan
from ads_gym.runs.progress import ProgressLine, Scalars
from ads_gym.runs.recorder import EPISODES_PER_EVALUATION, RecordedEvaluator, StoppedBy
from ads_gym.runs.report import draw_pictures
from ads_gym.runs.result import SearchResult
from ads_gym.tasks import Task

__all__ = ["SearchResult", "search"]

MOST_EVALUATIONS = 10**9
MOST_SEED = 2**32 - 1  # what numpy, torch and Stable-Baselines3 all take


def search(  # noqa: PLR0913 - its keywords are its user interface
    task: str | Path | Task = "digits",
    agent: Any = "reinforce",
    evaluations: int = 512,
    *,
    seed: int = 0,
    cost_weight: float | str = "even",
    reward: str | Reward = "soft",
    max_macs: float | None = None,
    scope: str = "layers",
    decision: str = "connection",
    device: str = "auto",
    data_root: str | Path | None = None,
    run: str | Path | None = None,
    agent_options: Mapping[str, Any] | None = None,
    evaluator: str | Evaluator | None = None,
    progress: bool = True,
) -> SearchResult:
    """Lets an agent play until it has spent a budget of evaluations, and keeps the best network that it saw.

    All that is paid for is in the run folder before the agent hears of it. A run that was killed or interrupted goes on
    when the same call is made again, and comes to the same result; a larger budget extends it; a run that is over gives
    its result again without playing. TEST is never read.

    Args:
        task: a name, a folder, or a `Task`.
        agent: a registered name, "module:name", a class with `learn`, or a function `play(env, seed, **options)`; see
            `ads_gym.agents.registry`.
        evaluations: the budget: so many masks are evaluated, unless 20 times as many episodes come first.
        seed: of the agent.
        cost_weight: what relative cost 1 takes off the reward, 0 to 100; "even": dense and chain score the same.
        reward: "accuracy", "soft" (mean probability of the true class), "loss" (negated), "module:name" or a function.
        max_macs: limit on MACs / dense MACs, or None.
        scope: "layers", or "all" (connections into transitions and the classifier too).
        decision: "connection", "layer" or "network": how many are decided at once.
        device: of the evaluator: "auto", "cpu", "cuda".
        data_root: where data sets lie.
        run: the run folder; default runs/<task>-<agent>-s<seed>-<8 hex of the settings>.
        agent_options: keywords for the agent.
        evaluator: None (the task's), "planted:KIND:SEED", "module:name" (called with task and scope) or an evaluator.
        progress: whether to show a line of progress, where stderr is a terminal.

    Raises:
        AdsGymError: bad arguments; a run folder of other settings, damaged, held by another process, or on a full disk.
    """
    options = agent_options or {}
    check_budget(evaluations, seed)
    player = find_agent(agent)
    player.check_options(options)
    game = {"scope": scope, "decision": decision, "reward": reward, "max_macs": max_macs, "device": device}
    plan = Plan(task, data_root, evaluator, game | {"cost_weight": check_cost_weight(cost_weight)}, player)
    settings = plan.settings(seed, options)
    folder = RunFolder(Path(run) if run is not None else settings.folder(plan.task.name))

    if (over := finished(folder, settings, evaluations)) is not None:
        return over
    with open_run(folder, plan, settings, evaluations) as opened:
        play(opened, plan, progress)
        return close_run(opened, plan)


def check_budget(evaluations: object, seed: object) -> None:
    """Finds numbers that no run can have.

    Raises:
        InvalidValue: a budget or a seed out of range.
    """
    for name, value, least, most in (("evaluations", evaluations, 1, MOST_EVALUATIONS), ("seed", seed, 0, MOST_SEED)):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidValue(f"{name} must be a whole number from {least} to {most:,}, got {value!r}.")


def finished(folder: RunFolder, settings: Settings, evaluations: int) -> SearchResult | None:
    """The result of a run that is over and had at least this budget, or None.

    Raises:
        InvalidValue: the folder is another run's.
    """
    manifest = folder.read()
    if manifest is None:
        return None
    check_settings(folder.path, manifest, settings)
    if manifest.result is None or manifest.budget < evaluations:
        return None
    return SearchResult.from_dict(folder.path, manifest.result)


@dataclass
class OpenRun:
    """A run folder while one process plays in it."""

    folder: RunFolder
    settings: Settings
    manifest: Manifest
    history: History
    evaluator: StoredEvaluator  # behind the folder's store, before the record
    referee: DenseNetSparsifyEnv  # knows what a mask scores
    stopped_by: StoppedBy = StoppedBy.AGENT
    episodes: int = 0

    def write(self, **changes: Any) -> None:
        """Changes entries of the manifest."""
        self.manifest = replace(self.manifest, **changes)
        self.folder.write(self.manifest)

    def write_best(self, best: Row) -> None:
        """Writes the best architecture so far."""
        write_whole(self.folder.best, self.architecture(best).to_json() + "\n")

    def architecture(self, row: Row) -> Architecture:
        """That of an evaluation."""
        topology = self.evaluator.topology
        return Architecture(self.evaluator.config, topology.mask(row.mask), topology.scope)


@contextmanager
def open_run(folder: RunFolder, plan: Plan, settings: Settings, evaluations: int) -> Iterator[OpenRun]:
    """Begins a run, or opens one that is to go on; nothing is written before all of it is found to fit.

    A run that began here and fails before it recorded anything leaves nothing: what it failed at (an agent's options,
    most often) is put right, and would not fit the folder then.
    """
    inner = plan.make_evaluator()
    now = circumstances()
    manifest = folder.read()
    begins = manifest is None
    if manifest is None:
        manifest = Manifest(settings.to_dict(), evaluations, inner.fingerprint, now)
        folder.write(manifest)
    else:
        check_circumstances(folder.path, manifest, inner.fingerprint, now)
    key = inner.topology.key(inner.topology.chain())
    with History(folder.history, len(key)) as history:  # locks the folder
        try:
            with EvaluationStore(folder.store) as store:
                stored = StoredEvaluator(inner, store)
                opened = OpenRun(folder, settings, manifest, history, stored, plan.referee(stored))
                root = plan.task.data_root
                opened.write(budget=evaluations, result=None, data_root=None if root is None else str(root))
                yield opened
        except AdsGymError:
            if begins and not history.rows:
                with suppress(OSError):  # what went wrong first is what is told
                    folder.remove()
            raise


def play(run: OpenRun, plan: Plan, progress: bool) -> None:
    """Lets the agent play from its first step until the budget is spent; the record answers what it has already."""
    budget = run.manifest.budget
    with Scalars(run.folder.tensorboard) as scalars, ProgressLine(budget, len(run.history.rows), progress) as line:
        record = RecordedEvaluator(
            run.evaluator,
            run.history,
            budget,
            run.referee.score,
            on_rows=watch(run, scalars, line),
            on_difference=lambda index: run.write(differs_at=run.manifest.differs_at or index),
        )
        env = plan.environment(record)
        steps = EPISODES_PER_EVALUATION * budget * (record.topology.size + 1)  # more than the budget has
        try:
            plan.agent.run(env, run.settings.seed, run.settings.agent_options, steps)
        except BudgetExhausted:
            pass
        finally:
            env.close()
    run.stopped_by = record.stopped_by or StoppedBy.AGENT
    run.episodes = record.episodes


def watch(run: OpenRun, scalars: Scalars, line: ProgressLine) -> Callable[[Sequence[Row]], None]:
    """What is called with each batch of new rows: keeps best.json, TensorBoard and the progress line up to date."""
    best = best_of(run.history.rows) if run.history.rows else None

    def see(rows: Sequence[Row]) -> None:
        nonlocal best
        leader = best_of(rows if best is None else [best, *rows])
        if leader is not best:
            best = leader
            run.write_best(best)
        scalars.write(rows, leader)
        line.update(rows[-1].index, leader)

    return see


def close_run(run: OpenRun, plan: Plan) -> SearchResult:
    """Compares the best with what it has to beat, writes it, its network and the pictures, and says the run is over."""
    rows = run.history.rows
    if not rows:
        raise InvalidValue(f"agent {plan.agent.name} ended before a single network was evaluated.")
    best = best_of(rows)
    architecture = run.architecture(best)
    table = compare(run.evaluator, run.referee.cost, run.referee.score, architecture.mask, run.settings.seed)
    result = SearchResult(
        run.folder.path, architecture, best.metrics, best.reward, len(rows), run.episodes, run.stopped_by, table
    )
    run.write_best(best)
    if plan.has_network(architecture, run.evaluator.inner):
        from ads_gym.nets.sparse import save

        save(plan.task.inherit(architecture), run.folder.best)
    draw_pictures(run.folder.pictures, rows, result)
    run.write(result=result.to_dict())
    return result
