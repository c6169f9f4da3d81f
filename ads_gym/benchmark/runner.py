"""Play a benchmark: every agent on every supernet with every seed, in several processes, going on after a kill."""

from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, InstanceOf

from ads_gym import files
from ads_gym.agents.starts import RANKINGS
from ads_gym.architecture import find_architecture
from ads_gym.benchmark.entrants import entry_of, find_entrant
from ads_gym.benchmark.places import FILE, PLAN_FILE, Place, run_folder, store_file, supernet_folder, supernet_names
from ads_gym.benchmark.playing import Job, Measured, measure, play
from ads_gym.benchmark.records import PLAN, RESULTS, Missing, Plan, Played, Results, missing
from ads_gym.benchmark.statistics import DEFINITION
from ads_gym.benchmark.workers import Workers
from ads_gym.errors import AdsGymError, InvalidValue, NotFound, unknown_name
from ads_gym.evaluators.base import Weights
from ads_gym.nets.cost import CostTable
from ads_gym.objective import check_cost_weight, find_reward
from ads_gym.problem import macs_limit
from ads_gym.records import checked
from ads_gym.runs.folder import circumstances, now
from ads_gym.runs.step_lines import StepLines
from ads_gym.tasks import SupernetTask, Task
from ads_gym.tasks.presets import PRESETS, is_preset, split_name

Processes = Annotated[int, Field(ge=1, le=256)]


@checked
def benchmark(
    plan: InstanceOf[Plan],
    folder: Path | str,
    *,
    workers: Processes = 1,
    device: str = "cpu",
    data_root: Path | None = None,
    progress: bool = True,
) -> Results:
    """Play what is not played yet, and write the results.

    Args:
        plan: what is played.
        folder: for results.json, the supernets, the runs, and stores of evaluations that runs share (that changes
            times, no counts). A benchmark that was killed goes on when the same call is made again.
        workers: processes, of one thread each.
        device: of the evaluators.
        data_root: where data sets lie.
        progress: whether to show progress on stderr.

    Raises:
        InvalidValue: a folder of another plan, or tasks and agents that make no run.
        AdsGymError: tasks that cannot be loaded or trained, no space, another process that plays in the folder.
    """
    folder, lines, began = files.resolve(folder), StepLines(progress), now()
    names = check_plan(plan, data_root)
    with files.locked(folder, "playing a benchmark"):
        _keep_plan(folder, plan)
        places = [_place(folder, task, name, device, data_root, lines) for task, name in names]
        with Workers(workers) as processes:
            with lines.long("scoring random networks", "supernets") as step:
                update = partial(step.update, total=len(places))
                measured = processes.run(partial(measure, plan), places, update, _no_measure)
            jobs, lacking = _jobs(plan, places, measured, folder)
            with lines.long("playing", "runs") as step:
                done = processes.run(play, jobs, partial(step.update, total=len(jobs)), _died)
        results = Results(
            plan,
            tuple(entry_of(agent) for agent in plan.agents),
            tuple(each.supernet for each in measured),
            tuple(each for each in done if isinstance(each, Played)),
            (*lacking, *(each for each in done if isinstance(each, Missing))),
            DEFINITION,
            circumstances(),
            began,
            now(),
        )
        RESULTS.write(folder / FILE, results)
        return results


def check_plan(plan: Plan, data_root: Path | None) -> list[tuple[str, str]]:
    """Return tasks and names of the supernets of a plan, after all is checked that can be before anything is trained.

    Raises:
        AdsGymError: agents, tasks, reward, weights, limits or a start that cannot be used.
    """
    for agent in plan.agents:
        find_entrant(agent)
    find_reward(plan.reward)
    check_cost_weight(plan.cost_weight)
    if plan.weights is not None:
        Weights(plan.weights)
    if plan.start not in (None, *RANKINGS) and not files.exists(find_architecture(str(plan.start))):
        raise unknown_name("start (and there is no architecture of that name)", plan.start, RANKINGS)
    names = [(task, name) for task in plan.tasks for name in supernet_names(task, plan.supernets)]
    if len(set(plan.agents)) < len(plan.agents) or len({name for _, name in names}) < len(names):
        raise InvalidValue("an agent or a supernet is named twice: its runs could not be told apart.")
    for _, name in names:
        _check_limit(plan, name, data_root)
    return names


def _check_limit(plan: Plan, name: str, data_root: Path | None) -> None:
    """Check that a task is there or can be made, and that the limit is one for its network."""
    try:
        config = Task.load(name, data_root).config
    except NotFound:
        if not is_preset(name):
            raise
        from ads_gym.supernet_training import named_settings

        config = named_settings(name, data_root).config
    macs_limit(CostTable(config), plan.max_macs)


def _place(folder: Path, task: str, name: str, device: str, data_root: Path | None, lines: StepLines) -> Place:
    """A supernet, trained if it is a named one that is not there yet, and copied to the folder of the results."""
    copy = supernet_folder(folder, name)
    found: Task | None = None
    if files.exists(copy / "task.json"):
        found = Task.load(str(copy), data_root)
    elif is_preset(name):
        found = _named(name, data_root, lines)
    else:
        found = Task.load(name, data_root)
    reference = name
    if isinstance(found, SupernetTask):
        reference = str(found.copied(copy).folder)
    return Place(task, name, reference, store_file(folder, name), device, data_root)


def _named(name: str, data_root: Path | None, lines: StepLines) -> SupernetTask:
    """A named supernet; trained if it is not there yet, and all its architectures scored if its preset says so."""
    from ads_gym.supernet_training import named_task
    from ads_gym.tabulation import tabulate

    preset = PRESETS[split_name(name)[0]]
    with lines.long(f"training {name}", "epochs") as step:
        task = named_task(name, data_root, lambda epoch, loss: step.update(epoch, preset.epochs, loss))
    if preset.table and task.table is None:
        with lines.long(f"scoring all of {name}", "masks") as step:
            task = tabulate(task, step.update)
    return task


def _jobs(plan: Plan, places: list[Place], measured: list[Measured], folder: Path) -> tuple[list[Job], list[Missing]]:
    """All runs; and where there are none, for a task lacks what an agent needs."""
    jobs, lacking = list[Job](), list[Missing]()
    for place, known in zip(places, measured, strict=True):
        for agent in plan.agents:
            if agent in known.lacking:
                lacking.append(missing(place.name, agent, None, known.lacking[agent]))
                continue
            for seed in range(plan.seeds):
                jobs.append(Job(plan, place, agent, seed, run_folder(folder, place.name, agent, seed)))
    return jobs, lacking


def _no_measure(place: Place) -> Measured:
    raise AdsGymError(f"the process that scored random networks of {place.name} died, for want of memory perhaps.")


def _died(job: Job) -> Missing:
    return missing(job.place.name, job.agent, job.seed, "its process died (for want of memory, or it ended itself).")


def _keep_plan(folder: Path, plan: Plan) -> None:
    """Refuse a folder of another plan, and keep this one in a new folder.

    Raises:
        InvalidValue: it is of another.
    """
    path = folder / PLAN_FILE
    if files.exists(path):
        if (stored := PLAN.read(path)) != plan:
            raise InvalidValue(f"the folder {folder} holds a benchmark of another plan, {stored}: give another --out.")
        return
    PLAN.write(path, plan)
