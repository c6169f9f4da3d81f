"""The progress of what takes several steps: a line on stderr for each; in a long one a bar, or lines now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ads_gym.runs.progress import SECONDS_BETWEEN_LINES, duration

TELLING = 0.05  # share of a step after which the time that is left can be told


class StepLines:
    """Lines about steps.

    Args:
        shown: False prints nothing.
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown

    def say(self, line: str) -> None:
        """Print a line."""
        if self.shown:
            print(line, file=sys.stderr, flush=True)

    @contextmanager
    def long(self, name: str, what: str) -> Iterator["LongStep"]:
        """Show how far a step has come, for the time of the block."""
        with LongStep(name, what, self.shown) as step:
            yield step


class LongStep:
    """A bar on a terminal; elsewhere a line every 30 seconds.

    Args:
        name: of the step.
        what: that are counted.
        shown: False prints nothing.
    """

    def __init__(self, name: str, what: str, shown: bool) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[told]}"))
        self._bar = Progress(
            *columns, console=console, transient=True, auto_refresh=False, disable=not (shown and console.is_terminal)
        )
        self._prints = shown and not console.is_terminal
        self._task = self._bar.add_task(name, total=None, told="")
        self._name, self._what, self._printed = name, what, time.perf_counter()
        self._since: tuple[int, float] | None = None  # the first that was done, and when: it may take longer

    def __enter__(self) -> "LongStep":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, total: int, loss: float | None = None) -> None:
        """Show that `done` of `total` are done; a loss where there is one."""
        now = time.perf_counter()
        told = f"{done}/{total} {self._what}" + ("" if loss is None else f"  loss {loss:.4f}")
        self._since = self._since or (done, now)
        first, since = self._since
        if done > first and done >= TELLING * total:
            told += f"  {duration((now - since) / (done - first) * (total - done))} left"
        self._bar.update(self._task, completed=done, total=total, told=told, refresh=True)
        if self._prints and now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            print(f"{self._name}  {told}", file=sys.stderr, flush=True)
