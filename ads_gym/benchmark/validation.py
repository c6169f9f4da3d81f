"""Check the results of a benchmark: score what is claimed again, and build the curves again from the runs' records."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import product, zip_longest
from pathlib import Path

import numpy as np

from ads_gym import files
from ads_gym.benchmark.entrants import entry_of
from ads_gym.benchmark.places import FILE, Place, run_folder, supernet_folder, supernet_names
from ads_gym.benchmark.playing import Job, area, improvements, lacks, optimum_of, play, problem_of, random_scores
from ads_gym.benchmark.records import RESULTS, Missing, Played, Results, Supernet
from ads_gym.benchmark.statistics import DEFINITION
from ads_gym.benchmark.summary import last_line
from ads_gym.benchmark.tables import csv_of, markdown
from ads_gym.errors import AdsGymError, InvalidValue
from ads_gym.objective import REWARDS
from ads_gym.problem import Problem
from ads_gym.records import checked
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.record import Row, best_of, read_record
from ads_gym.runs.step_lines import StepLines
from ads_gym.tasks import PLANTED

TOLERANCE = 1e-4  # of objectives: another processor computes other last bits
KNOWN = "random_mean", "random_sd", "optimum"  # of a supernet
WHOLE = "evaluations", "charged", "mask", "improved"  # of a run, that must be as its record has them


@checked
def validate(
    folder: Path | str, *, replay: bool = False, data_root: Path | None = None, progress: bool = True
) -> list[str]:
    """Return what does not hold in the results of a benchmark, a sentence each; nothing where all of it holds.

    The best architecture of every run, and each one that was the best before it, is scored again on the supernet that
    comes with the results; the curve is built again from the order in which the run's record has its evaluations; the
    random masks and the optimum of every supernet are scored again; supernets and runs are compared with the plan; the
    tables are made again. Without `replay`, no agent is looked up and no code is run that the results name.

    Whether the agents played so is found by playing again alone: an order, the end of a run, or other evaluations that
    were changed in results and record alike; runs that are said to be missing; what an agent reads. Seconds are not
    checked.

    Args:
        folder: of results.json, the supernets and the runs.
        replay: whether the agents play again, from their seeds; this runs the code that the results name.
        data_root: where data sets lie.
        progress: whether to show progress on stderr.

    Raises:
        NotFound, DamagedFile, StorageError: no results, or a file that cannot be read.
        InvalidValue: a reward that is code, without `replay`.
    """
    folder, lines = files.resolve(folder), StepLines(progress)
    results = RESULTS.read(folder / FILE)
    if results.plan.reward not in REWARDS and not replay:
        raise InvalidValue(
            f"these results score by code, the reward {results.plan.reward}: nothing that they name is run unless you "
            "let the agents play again (--replay)."
        )
    found = [*_of_plan(results), *_of_tables(results, folder), *(_of_agents(results) if replay else ())]
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
    expected = {(task, name) for task in plan.tasks for name in supernet_names(task, plan.supernets)}
    there = {(each.task, each.name) for each in results.supernets}
    for task, name in sorted(expected ^ there):
        known = "was planned, and is not there" if (task, name) in expected else "was not planned"
        yield f"supernet {name} of {task} {known}."
    for each in results.supernets:
        if not each.is_copied and each.name not in PLANTED:
            yield f"supernet {each.name} does not come with the results."
    claimed = Counter((run.supernet, run.agent, run.seed) for run in results.played)
    absent = {(each.supernet, each.agent, seed) for each in results.missing for seed in _seeds(each.seed, plan.seeds)}
    planned = set(product([name for _, name in expected], plan.agents, range(plan.seeds)))
    for run, times in claimed.items():
        if times > 1:
            yield f"{_name(*run)} is claimed {times} times."
    for run in sorted({*claimed} - planned):
        yield f"{_name(*run)} was not planned."
    for run in sorted(absent & {*claimed}):
        yield f"{_name(*run)} is there, and said to be missing."
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
    problem = problem_of(results.plan, place)
    try:
        again = dict(zip(KNOWN, (*random_scores(problem), optimum_of(problem)), strict=True))
        for field, scored in again.items():
            if not _alike(claimed := getattr(supernet, field), scored):
                yield f"{field} of {supernet.name} is {claimed} in the results, and {scored} when it is scored again."
        for run in results.played:
            if run.supernet == supernet.name:
                yield from _of_run(results, run, problem, folder)
                if replay:
                    yield from _of_replay(results, run, place)
        for each in results.missing if replay else ():
            if each.supernet == supernet.name:
                yield from _of_missing(results, each, problem, place)
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
    name, again = _name(run.supernet, run.agent, run.seed), _again(results, place, run.agent, run.seed)
    if not isinstance(again, Played):
        yield f"{name}: it does not play again: {last_line(again)}"
    elif (
        any(getattr(again, field) != getattr(run, field) for field in WHOLE[:3])
        or not _same_curve(again, run)
        or not _alike(again.hypervolume, run.hypervolume)
    ):
        yield f"{name}: it plays otherwise when it plays again."


def _of_missing(results: Results, absent: Missing, problem: Problem, place: Place) -> Iterator[str]:
    """A run that is said to be missing, and can be played."""
    if absent.seed is None:
        if lacks(results.plan, problem, absent.agent) is None:
            yield f"{absent.agent} can play on {place.name}, and is said to lack something."
    elif isinstance(_again(results, place, absent.agent, absent.seed), Played):
        yield f"{_name(place.name, absent.agent, absent.seed)} is said to be missing, and can be played."


def _of_agents(results: Results) -> Iterator[str]:
    """Agents of which something else is said than they say."""
    for claimed, agent in zip_longest(results.entries, results.plan.agents):
        if claimed is None or agent is None or claimed != entry_of(agent):
            yield f"what is said of agent {agent if claimed is None else claimed.agent} is not what it says itself."


def _again(results: Results, place: Place, agent: str, seed: int) -> Played | Missing:
    """Play a run again."""
    with tempfile.TemporaryDirectory(prefix="ads-gym-") as scratch:
        return play(Job(results.plan, place, agent, seed, Path(scratch) / "run"))


def _same_curve(one: Played, other: Played) -> bool:
    pairs = [*zip(one.improved, other.improved, strict=False)]
    return len(one.improved) == len(other.improved) and all(a[0] == b[0] and _alike(a[1], b[1]) for a, b in pairs)


def _alike(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE * max(1.0, abs(other))


def _name(supernet: str, agent: str, seed: int) -> str:
    return f"{agent} on {supernet}, seed {seed}"
