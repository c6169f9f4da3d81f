"""The progress of a search: a line on the terminal, lines now and then elsewhere, and scalars for TensorBoard."""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, TextColumn

from ads_gym.files import file_errors, make_folder
from ads_gym.runs.record import Row

SECONDS_BETWEEN_UPDATES = 0.1
SECONDS_BETWEEN_LINES = 30.0  # where stderr is no terminal


class ProgressLine:
    """Best objective, its accuracy and relative MACs, evaluations, rate and time left, on one line of stderr.

    The line fits 80 columns. Where stderr is no terminal, a plain line is printed every 30 seconds, and one where a run
    goes on.

    Args:
        budget: evaluations.
        recorded: how many a run that goes on has already.
        shown: False prints nothing.
    """

    def __init__(self, budget: int, recorded: int, shown: bool = True) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}  {task.completed}/{task.total} evaluations  {task.fields[pace]}"),
            console=console,
            auto_refresh=False,  # no thread beside the agent's and the evaluator's
            disable=not (shown and console.is_terminal),
        )
        self._prints = shown and not console.is_terminal
        self._printed = time.perf_counter()
        if self._prints and recorded:
            print(f"goes on after {recorded} recorded evaluations", file=sys.stderr, flush=True)
        begin = f"repeating the {recorded} recorded" if recorded else "begins"
        self._task = self._bar.add_task(begin, total=budget, completed=recorded, pace="")
        self._since: tuple[float, int] | None = None if recorded else (time.perf_counter(), 0)
        self._updated = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        self._bar.refresh()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.refresh()
        self._bar.stop()

    def update(self, done: int, best: Row) -> None:
        """Shows that `done` evaluations are recorded and which of them is best."""
        now = time.perf_counter()
        if self._since is None:  # a run that goes on: what was repeated says nothing of how fast it will go
            self._since = now, done
        since, done_then = self._since
        rate = (done - done_then) / (now - since) if now > since else 0.0
        total = int(self._bar.tasks[0].total or done)
        if now - self._updated < SECONDS_BETWEEN_UPDATES and done < total:
            return
        self._updated = now
        metrics = best.metrics
        told = f"best {best.objective:.4f}  accuracy {metrics.accuracy:.3f}  MACs {metrics.relative_macs:.3f}"
        pace = f"{rate:.{1 if rate < 100 else 0}f}/s  {duration((total - done) / rate)} left" if rate else ""
        self._bar.update(self._task, completed=done, description=told, pace=pace, refresh=True)
        if self._prints and now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            print(f"{told}  {done}/{total} evaluations  {pace}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Scalars:
    """TensorBoard scalars over evaluations: objective, best objective, accuracy, relative MACs. Needs no torch.

    Args:
        folder: for the event files; each process that goes on with a run adds one.

    Raises:
        StorageError: no space, no permission.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary import Writer

        self._folder = folder
        make_folder(folder)
        with file_errors(folder, "written"):
            self._writer = Writer(str(folder))

    def write(self, rows: Sequence[Row], best: Row) -> None:
        """Add evaluations; `best` is the best so far."""
        with file_errors(self._folder, "written"):
            for row in rows:
                values = {
                    "objective": row.objective,
                    "best/objective": best.objective,
                    "accuracy": row.metrics.accuracy,
                    "relative_macs": row.metrics.relative_macs,
                }
                for tag, value in values.items():
                    self._writer.add_scalar(f"search/{tag}", value, row.number)
            self._writer.flush()

    def __enter__(self) -> Self:
        self._excepthook, threading.excepthook = threading.excepthook, self._hide_errors_of_writer
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with file_errors(self._folder, "written"):
                self._writer.close()
        finally:
            threading.excepthook = self._excepthook

    def _hide_errors_of_writer(self, arguments: threading.ExceptHookArgs) -> None:
        """Print no traceback of TensorBoard's thread: our next call of the writer raises the same error."""
        if not type(arguments.thread).__module__.startswith("tensorboard."):
            self._excepthook(arguments)
