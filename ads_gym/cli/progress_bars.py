"""A progress bar for what takes epochs; plain lines where stderr is no terminal."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from ads_gym.runs.progress import duration

SECONDS_TO_FIRST_LINE = 5.0  # where stderr is no terminal; what is quicker says nothing
SECONDS_BETWEEN_LINES = 30.0


class EpochBar:
    """What goes on, epoch, loss and time left, on one line of stderr; a line now and then where that is no terminal.

    Args:
        name: of what goes on first.
    """

    def __init__(self, name: str) -> None:
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[told]}", markup=False),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task(name, total=None, told="")
        self._line = name
        self._since: tuple[str, int, float] | None = None  # what, after which epoch, seconds
        self._over = threading.Event()
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Self:
        self._bar.start()
        if self._bar.disable:
            self._teller.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._bar.stop()
        if self._bar.disable:
            self._teller.join()

    def update(self, name: str, epoch: int, epochs: int, loss: float, then: str = "") -> None:
        """Show progress.

        Args:
            name: of what is trained.
            epoch: how many are done.
            epochs: of this training.
            loss: of the last epoch, nats.
            then: what follows the last epoch, if that takes long.
        """
        now = time.perf_counter()
        if self._since is None or self._since[0] != name:  # the first epoch seen may follow others before a kill
            self._since = name, epoch, now
        if then and epoch == epochs:
            self._line = then
            self._bar.update(self._task, description=then, total=None, told="")
            return
        _, first, since = self._since
        told = f"{epoch}/{epochs} epochs  loss {loss:.4f}"
        if epoch > first:
            told += f"  {duration((now - since) / (epoch - first) * (epochs - epoch))} left"
        self._line = f"{name}: {told}"
        self._bar.update(self._task, description=name, total=epochs, completed=epoch, told=told)

    def _tell(self) -> None:
        """Write a line now and then, whatever takes long: reading, an epoch, measuring."""
        wait = SECONDS_TO_FIRST_LINE
        while not self._over.wait(wait):
            print(self._line, file=sys.stderr, flush=True)
            wait = SECONDS_BETWEEN_LINES
