"""An agent plays in an open run, from its first step until the budget is spent."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ads_gym.runs.child import play_in_child
from ads_gym.runs.driving import drive
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.open_run import Job, OpenRun
from ads_gym.runs.progress import ProgressLine, Scalars
from ads_gym.runs.record import Row, best_of
from ads_gym.runs.recorder import Recorder, StoppedBy


def play(run: OpenRun, progress: bool, time_limit: float | None = None) -> None:
    """Let the agent search from its first step until the budget is spent; the record answers what it has already.

    Args:
        run: the folder, and what is solved by whom.
        progress: whether to show progress on stderr.
        time_limit: wall seconds that a process of the agent's own may take; None: it has none, and plays in this one.

    Raises:
        TimeLimit, AgentFailed: see `play_in_child`.
    """
    budget = run.manifest.budget
    recorded = run.rows[-1].spent if run.rows else 0
    with Scalars(run.folder.tensorboard) as scalars, ProgressLine(budget, recorded, progress) as line:
        paid = replace(run.problem, evaluator=run.job.problem.evaluator)  # the recorder itself stores what it gives
        recorder = Recorder(paid, run.record, budget, on_rows=watch(run, scalars, line), on_difference=run.differ)
        run.rows = recorder.rows
        problem = replace(run.problem, evaluator=recorder, charge=recorder.charge, charged_time=recorder.charged_time)
        job = replace(run.job, problem=problem)
        try:
            if time_limit is None:
                run.agent_seconds = play_here(job, recorder, run.folder)
            else:
                run.agent_seconds = play_in_child(job, recorder, run.folder, time_limit)
        finally:
            run.episodes, run.charged = recorder.episodes, recorder.charged
    if recorder.next_to_repeat is not None and not run.may_differ:
        run.differ(recorder.next_to_repeat)
    run.stopped_by = recorder.stopped_by or StoppedBy.AGENT


def play_here(job: Job, recorder: Recorder, folder: RunFolder) -> float:
    """Let the agent play in this process; return the seconds of CPU that it took besides evaluations."""
    began = time.process_time()
    drive(job, recorder, lambda: folder.policy)
    return time.process_time() - began - recorder.cpu_seconds


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
