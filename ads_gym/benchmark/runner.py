"""Play a benchmark: every agent on every supernet with every seed, in several processes, going on after a kill."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from ads_gym import files
from ads_gym.agents.registry import find_agent
from ads_gym.benchmark.playing import Job, lacks, measure, play
from ads_gym.benchmark.records import FILE, PLAN, RESULTS, Missing, Plan, Played, Results, Supernet
from ads_gym.errors import InvalidValue
from ads_gym.runs.folder import circumstances, now
from ads_gym.runs.step_lines import StepLines
from ads_gym.tasks import SupernetTask, Task
from ads_gym.tasks.presets import PRESETS, is_preset, split_name

THREADS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"  # one of each in a process: a run a core


def benchmark(
    plan: Plan,
    folder: Path | str,
    *,
    workers: int = 1,
    device: str = "cpu",
    data_root: Path | None = None,
    progress: bool = True,
) -> Results:
    """Play what is not played yet, and write the results.

    Args:
        plan: what is played.
        folder: for results.json, the runs, and stores of evaluations that runs share (that changes times, no counts).
            A benchmark that was killed goes on when the same call is made again.
        workers: processes, of one thread each.
        device: of the evaluators.
        data_root: where data sets lie.
        progress: whether to show progress on stderr.

    Raises:
        InvalidValue: a folder of another plan, or tasks and agents that make no run.
        AdsGymError: tasks that cannot be loaded or trained.
    """
    folder, lines, began = files.resolve(folder), StepLines(progress), now()
    for agent in plan.agents:
        find_agent(agent)
    if len(set(plan.agents)) < len(plan.agents) or len(set(plan.tasks)) < len(plan.tasks):
        raise InvalidValue("an agent or a task is named twice: its runs could not be told apart.")
    with files.locked(folder, "playing a benchmark"):
        _check_plan(folder, plan)
        names = [(task, name) for task in plan.tasks for name in supernet_names(task, plan.supernets)]
        for _, name in names:
            _ready(name, data_root, lines)
        supernets, jobs, missing = list[Supernet](), list[Job](), list[Missing]()
        with lines.long("scoring random networks", "supernets") as step:
            for number, (task, name) in enumerate(names, start=1):
                store = folder / "evaluations" / f"{_plain(name)}.sqlite"
                supernets.append(measure(plan, task, name, store, device, data_root))
                for agent in plan.agents:
                    if (why := lacks(plan, name, agent)) is not None:
                        missing.append(Missing(name, agent, None, why))
                        continue
                    for seed in range(plan.seeds):
                        run = folder / "runs" / _plain(f"{name}-{agent}-s{seed}")
                        jobs.append(Job(plan, name, agent, seed, run, store, device, data_root))
                step.update(number, len(names))
        done = _play_all(jobs, workers, lines)
        played = [each for each in done if isinstance(each, Played)]
        missing += [each for each in done if isinstance(each, Missing)]
        results = Results(plan, tuple(supernets), tuple(played), tuple(missing), circumstances(), began, now())
        RESULTS.write(folder / FILE, results)
        return results


def supernet_names(task: str, count: int) -> list[str]:
    """The supernets of a task: NAME@1 to NAME@count of a named one, else the task itself."""
    base, seed = split_name(task)
    if count and is_preset(task) and seed is None:
        return [f"{base}@{number}" for number in range(1, count + 1)]
    return [task]


def _ready(name: str, data_root: Path | None, lines: StepLines) -> None:
    """Train a named supernet that is not there yet, and score all its architectures if its preset says so."""
    if not is_preset(name):
        Task.load(name, data_root)
        return
    from ads_gym.supernet_training import named_task
    from ads_gym.tabulation import tabulate

    preset = PRESETS[split_name(name)[0]]
    with lines.long(f"training {name}", "epochs") as step:
        task = named_task(name, data_root, lambda epoch, loss: step.update(epoch, preset.epochs, loss))
    if preset.table and isinstance(task, SupernetTask) and task.table is None:
        with lines.long(f"scoring all of {name}", "masks") as step:
            tabulate(task, step.update)


def _play_all(jobs: list[Job], workers: int, lines: StepLines) -> list[Played | Missing]:
    """Play all jobs; their results are in the jobs' order."""
    done: dict[int, Played | Missing] = {}
    context = multiprocessing.get_context("spawn")
    with one_thread(), lines.long("playing", "runs") as step, ProcessPoolExecutor(workers, context) as pool:
        futures = {pool.submit(play, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                step.update(len(done), len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[number] for number in range(len(jobs))]


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes that are started in the block compute on one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _check_plan(folder: Path, plan: Plan) -> None:
    """Refuse a folder of another plan.

    Raises:
        InvalidValue: it is of another.
    """
    path = folder / "plan.json"
    if files.exists(path):
        if (stored := PLAN.read(path)) != plan:
            raise InvalidValue(f"the folder {folder} holds a benchmark of another plan, {stored}: give another --out.")
        return
    PLAN.write(path, plan)


def _plain(name: str) -> str:
    """A name for a file."""
    return "".join(letter if letter.isalnum() or letter in "-_@." else "-" for letter in name)
