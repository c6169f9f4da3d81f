"""Interleaved timing: every contestant in turn, so that a noisy machine is noisy for all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of a table: ours against a named rival, from one run."""

    what: str  # what was done
    rival: str  # against what
    ours_seconds: list[float]  # one entry a repeat
    rival_seconds: list[float]  # the same repeats
    work: float = 1.0  # units done in one of ours_seconds
    rival_work: float = 1.0  # and in one of rival_seconds
    unit: str = "runs"  # of work

    @property
    def ratios(self) -> np.ndarray:
        """[repeats]: how many times as fast ours was, repeat by repeat."""
        ours, theirs = np.array(self.ours_seconds) / self.work, np.array(self.rival_seconds) / self.rival_work
        return theirs / ours

    @property
    def ratio(self) -> float:
        """The median of `ratios`."""
        return float(np.median(self.ratios))

    def line(self) -> str:
        """Markdown: | what | rival | ours | rival's | ratio (lowest - highest) |."""
        ours, theirs = self.work / np.median(self.ours_seconds), self.rival_work / np.median(self.rival_seconds)
        spread = f"{self.ratio:.2f} ({self.ratios.min():.2f} - {self.ratios.max():.2f})"
        return f"| {self.what} | {self.rival} | {ours:,.4g} {self.unit}/s | {theirs:,.4g} {self.unit}/s | {spread} |"


def interleaved(contestants: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, list[float]]:
    """Seconds of every repeat of every contestant; one call of each, untimed, goes first."""
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds
