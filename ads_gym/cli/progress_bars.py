"""A bar for what goes epoch by epoch."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from ads_gym.runs.progress import duration

QUIET_SECONDS = 30.0  # where stderr is no terminal, a line may follow another after so long


class EpochBar:
    """What is trained, epoch, loss and time left, on one line of stderr; a line now and then where that is no terminal.

    Args:
        epochs: of one training.
        name: of what is trained first.
        then: what happens after the last epoch, if that takes long.
    """

    def __init__(self, epochs: int, name: str, then: str = "") -> None:
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[told]}"),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task(name, total=epochs, told=f"0/{epochs} epochs")
        self._epochs, self._then = epochs, then
        self._since: tuple[str, int, float] | None = None  # what, after which epoch, seconds
        self._said = time.perf_counter()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, name: str, epoch: int, loss: float) -> None:
        """Shows that `epoch` epochs of `name` are done and the loss of the last, in nats."""
        now = time.perf_counter()
        if self._since is None or self._since[0] != name:  # the first epoch seen may follow others before a kill
            self._since = name, epoch, now
        if self._then and epoch == self._epochs:
            self._bar.update(self._task, description=self._then, told="")  # not completed, so the spinner goes on
            self._say(self._then, now)
            return
        _, first, since = self._since
        told = f"{epoch}/{self._epochs} epochs  loss {loss:.4f}"
        if epoch > first:
            told += f"  {duration((now - since) / (epoch - first) * (self._epochs - epoch))} left"
        self._bar.update(self._task, description=name, completed=epoch, told=told)
        self._say(f"{name}: {told}", now)

    def _say(self, line: str, now: float) -> None:
        """Writes a line where there is no bar, unless the last was a moment ago."""
        if self._bar.disable and now - self._said >= QUIET_SECONDS:
            self._said = now
            print(line, file=sys.stderr, flush=True)
