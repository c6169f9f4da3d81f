"""What can be seen of a search while it runs: a line on the terminal, and scalars for TensorBoard."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, TextColumn

from ads_gym.errors import StorageError
from ads_gym.runs.history import Row

SECONDS_BETWEEN_LOOKS = 0.1


class ProgressLine:
    """Best reward, its accuracy and relative MACs, evaluations, rate and time left, on one line of stderr (80 columns).

    Args:
        budget: evaluations.
        recorded: how many a run that goes on has already.
        shown: False shows nothing; True shows it where stderr is a terminal.
    """

    def __init__(self, budget: int, recorded: int, shown: bool = True) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}  {task.completed}/{task.total} evaluations  {task.fields[pace]}"),
            console=console,
            auto_refresh=False,  # no thread beside the agent's and the evaluator's
            disable=not (shown and console.is_terminal),
        )
        begin = f"repeating the {recorded} recorded" if recorded else "begins"
        self._task = self._bar.add_task(begin, total=budget, completed=recorded, pace="")
        self._since: tuple[float, int] | None = None if recorded else (time.perf_counter(), 0)
        self._looked = 0.0

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
        if now - self._looked < SECONDS_BETWEEN_LOOKS and done < total:
            return
        self._looked = now
        metrics = best.metrics
        told = f"best {best.reward:.4f}  accuracy {metrics.accuracy:.3f}  MACs {metrics.relative_macs:.3f}"
        pace = f"{rate:.{1 if rate < 100 else 0}f}/s  {duration((total - done) / rate)} left" if rate else ""
        self._bar.update(self._task, completed=done, description=told, pace=pace, refresh=True)


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Scalars:
    """TensorBoard scalars over evaluations: reward, best reward, accuracy, relative MACs. Needs no torch.

    Args:
        folder: for the event files; each process that goes on with a run adds one.

    Raises:
        StorageError: no space, no permission.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}").open("wb")
        except OSError as error:
            raise StorageError(f"{folder} cannot be written: {error.strerror}.") from error
        self._writer = RecordWriter(self._file)
        self._writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def write(self, rows: Sequence[Row], best: Row) -> None:
        """Adds evaluations; `best` is the best so far."""
        try:
            for row in rows:
                values = {
                    "reward": row.reward,
                    "best/reward": best.reward,
                    "accuracy": row.metrics.accuracy,
                    "relative_macs": row.metrics.relative_macs,
                }
                scalars = [self._summary.Value(tag=f"search/{tag}", simple_value=v) for tag, v in values.items()]
                event = self._event(wall_time=time.time(), step=row.index, summary=self._summary(value=scalars))
                self._writer.write(event.SerializeToString())
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self._folder} cannot be written: {error.strerror}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
