"""Check the results of a benchmark: score what is claimed again, and build the curves again from the runs' records."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from ads_gym import files
from ads_gym.benchmark.places import FILE, Place, run_folder, supernet_folder
from ads_gym.benchmark.playing import Job, area, improvements, measure, play, problem_of
from ads_gym.benchmark.records import RESULTS, Played, Results, Supernet
from ads_gym.benchmark.statistics import DEFINITION
from ads_gym.benchmark.summary import last_line
from ads_gym.benchmark.tables import csv_of, markdown
from ads_gym.errors import AdsGymError
from ads_gym.problem import Problem
from ads_gym.records import checked
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.record import Row, best_of, read_record
from ads_gym.runs.step_lines import StepLines

TOLERANCE = 1e-4  # of objectives: another processor computes other last bits
WHOLE = "evaluations", "charged", "mask", "improved"  # of a run, that must be as its record has them


@checked
def validate(
    folder: Path | str, *, replay: bool = False, data_root: Path | None = None, progress: bool = True
) -> list[str]:
    """Return what does not hold in the results of a benchmark, a sentence each; nothing where all of it holds.

    The best architecture of every run, and each one that was the best before it, is scored again on the supernet that
    comes with the results; the curve is built again from the order in which the run's record has its evaluations; the
    random masks and the optimum of every supernet are scored again; the tables are made again. An order that was
    changed in results and record alike is found by playing again.

    Args:
        folder: of results.json, the supernets and the runs.
        replay: whether the agents play again, from their seeds.
        data_root: where data sets lie.
        progress: whether to show progress on stderr.

    Raises:
        NotFound, DamagedFile, StorageError: no results, or a file that cannot be read.
    """
    folder, lines = files.resolve(folder), StepLines(progress)
    results = RESULTS.read(folder / FILE)
    found = [*_of_plan(results), *_of_tables(results, folder)]
    with lines.long("scoring again", "supernets") as step:
        for number, supernet in enumerate(results.supernets, start=1):
            found += _of_supernet(results, supernet, folder, replay, data_root)
            step.update(number, len(results.supernets))
    return found


def _of_plan(results: Results) -> Iterator[str]:
    """Runs that are claimed twice, were not planned, or are neither there nor missing."""
    if results.definition != DEFINITION:
        yield f"the results are told by version {results.definition.get('version')!r} of the definition, not by ours."
    plan = results.plan
    names = [each.name for each in results.supernets]
    claimed = Counter((run.supernet, run.agent, run.seed) for run in results.played)
    absent = {(each.supernet, each.agent, seed) for each in results.missing for seed in _seeds(each.seed, plan.seeds)}
    planned = set(product(names, plan.agents, range(plan.seeds)))
    for run, times in claimed.items():
        if times > 1:
            yield f"{_name(*run)} is claimed {times} times."
    for run in sorted({*claimed} - planned):
        yield f"{_name(*run)} was not planned."
    for run in sorted(planned - {*claimed} - absent):
        yield f"{_name(*run)} was planned, and is neither there nor said to be missing."


def _seeds(seed: int | None, count: int) -> list[int]:
    return [*range(count)] if seed is None else [seed]


def _of_tables(results: Results, folder: Path) -> Iterator[str]:
    """Tables that are not those of the results."""
    for name, expected in (("results.md", markdown(results)), ("results.csv", csv_of(results))):
        path = folder / name
        if files.exists(path) and files.read_bytes(path, "table of a benchmark", 1 << 28) != expected.encode():
            yield f"{name} is not the table of {FILE}."


def _of_supernet(
    results: Results, supernet: Supernet, folder: Path, replay: bool, data_root: Path | None
) -> Iterator[str]:
    """What does not hold on one supernet."""
    reference = str(supernet_folder(folder, supernet.name)) if supernet.is_copied else supernet.name
    place = Place(supernet.task, supernet.name, reference, None, "cpu", data_root)
    again = measure(results.plan, place).supernet
    for field in ("random_mean", "random_sd", "optimum"):
        claimed, scored = getattr(supernet, field), getattr(again, field)
        if not _alike(claimed, scored):
            yield f"{field} of {supernet.name} is {claimed} in the results, and {scored} when it is scored again."
    problem = problem_of(results.plan, place)
    try:
        for run in results.played:
            if run.supernet == supernet.name:
                yield from _of_run(results, run, problem, folder)
                if replay:
                    yield from _of_replay(results, run, place)
    finally:
        problem.close()


def _of_run(results: Results, run: Played, problem: Problem, folder: Path) -> Iterator[str]:
    """What does not hold of a run: against its record, and of what is in that."""
    name = _name(run.supernet, run.agent, run.seed)
    try:
        with read_record(RunFolder(run_folder(folder, run.supernet, run.agent, run.seed)).record) as record:
            rows = record.rows(problem.topology)
        objectives = _scored(problem, [row for row in rows if row.spent in dict(run.improved)])
    except AdsGymError as error:
        yield f"{name}: {error}"
        return
    recorded = (len(rows), max(run.charged, rows[-1].charged), best_of(rows).mask.hex(), improvements(rows))
    for field, expected in zip(WHOLE, recorded, strict=True):
        if getattr(run, field) != expected:
            yield f"{name}: {field} is not what its record has in its order."
    if not _alike(run.hypervolume, area(results.plan, rows)):
        yield f"{name}: the hypervolume is not that of its record."
    if len(rows) + run.charged > results.plan.evaluations:
        yield f"{name}: it spent more than {results.plan.evaluations} evaluations."
    for spent, claimed in run.improved:
        if spent in objectives and not _alike(claimed, objectives[spent]):
            yield (
                f"{name}: the objective after {spent} is {claimed:.6f} in the results, and {objectives[spent]:.6f} "
                "when its architecture is scored again."
            )


def _scored(problem: Problem, rows: list[Row]) -> dict[int, float]:
    """The objectives of rows, scored again, by what was spent."""
    masks = np.stack([problem.topology.mask(row.mask) for row in rows]) if rows else problem.topology.chain()[None]
    return {row.spent: each.objective for row, each in zip(rows, problem.score(masks), strict=False)}


def _of_replay(results: Results, run: Played, place: Place) -> Iterator[str]:
    """What does not hold of a run when its agent plays again."""
    name = _name(run.supernet, run.agent, run.seed)
    with tempfile.TemporaryDirectory(prefix="ads-gym-") as scratch:
        again = play(Job(results.plan, place, run.agent, run.seed, Path(scratch) / "run"))
    if not isinstance(again, Played):
        yield f"{name}: it does not play again: {last_line(again)}"
    elif any(getattr(again, field) != getattr(run, field) for field in WHOLE[:3]) or not _same_curve(again, run):
        yield f"{name}: it plays otherwise when it plays again."


def _same_curve(one: Played, other: Played) -> bool:
    pairs = [*zip(one.improved, other.improved, strict=False)]
    return len(one.improved) == len(other.improved) and all(a[0] == b[0] and _alike(a[1], b[1]) for a, b in pairs)


def _alike(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE * max(1.0, abs(other))


def _name(supernet: str, agent: str, seed: int) -> str:
    return f"{agent} on {supernet}, seed {seed}"
