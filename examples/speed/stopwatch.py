"""Where the time goes: a stopwatch on the parts of a program."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Part:
    """What of one run went where."""

    HEAD: ClassVar[str] = "| where the time goes | seconds | share |"

    name: str
    seconds: float
    share: float

    def line(self) -> str:
        """As HEAD says."""
        return f"| {self.name} | {self.seconds:.2f} | {self.share:.0%} |"


class Stopwatch:
    """Seconds by part; while one part runs within another, the outer one stands still."""

    def __init__(self, name: str) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open, self._since = [name], time.perf_counter()

    def lap(self) -> None:
        """What passed since the last lap goes to the part that is open."""
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def watch(self, owner: Any, function: str, name: str) -> None:
        """From now on a call of it is part `name`."""
        inner: Callable = getattr(owner, function)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.lap()
            self._open.append(name)
            try:
                return inner(*args, **kwargs)
            finally:
                self.lap()
                self._open.pop()

        setattr(owner, function, call)
