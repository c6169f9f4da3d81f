"""What a report shows, whatever kind of run it is of: built from a run's files, drawn by `ads_gym.reports.html`.

Whatever is None or empty is left out of the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ads_gym.architecture import Architecture
from ads_gym.nets.latency import Latency
from ads_gym.runs.result import Line


@dataclass(frozen=True)
class Stage:
    """A network on the way from the dense one to the result: a column of the first table."""

    name: str  # "dense", "inherited", "repaired", "distilled"
    accuracy: float  # or agreement, see `Page.measured`; 0 to 1
    soft_accuracy: float | None = None  # 0 to 1
    loss: float | None = None  # nats
    seconds: float | None = None  # that it took to make


@dataclass(frozen=True)
class Size:
    """What a network costs."""

    macs: int  # for one image
    parameters: int
    file_bytes: int | None = None  # of its weights on the disk


class Role(StrEnum):
    """What points in the picture of accuracy against MACs are, which decides their mark."""

    EVALUATED = "evaluated"  # by the search
    RANDOM = "random"
    RESIDUAL = "residual"  # along the order of elimination by residuals
    CHANNELS = "channels"  # that elimination leaves
    CHAIN = "chain"
    DENSE = "dense"
    CHOSEN = "chosen"


@dataclass(frozen=True)
class Points:
    """Networks in the picture of accuracy against MACs."""

    role: Role
    places: Sequence[tuple[float, float]]  # relative MACs, accuracy
    weights: Literal["inherited", "repaired", "distilled"] | None = None  # None: where that has no meaning

    @property
    def name(self) -> str:
        """For the legend."""
        return self.role if self.weights is None else f"{self.role}, {self.weights}"


@dataclass(frozen=True)
class Curve:
    """How a search went."""

    objectives: Sequence[float]  # of each evaluation, in order
    others: Sequence[tuple[str, float]] = ()  # (name, objective) of networks to compare with


@dataclass(frozen=True)
class Snippet:
    """A piece of code for the reader."""

    what: str  # a sentence
    code: str


@dataclass(frozen=True)
class Facts:
    """A list of names and values under a heading."""

    heading: str
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Page:
    """All that a report shows."""

    title: str  # "digits"
    what: str  # a sentence: what was run on what
    measured: Literal["accuracy", "agreement"]  # with labels, or with the dense network's predictions
    architecture: Architecture
    stages: Sequence[Stage]  # the dense network first, the result last
    dense: Size
    sparse: Size
    machine: str | None = None  # on which the report was made, where latency was measured
    latency: Sequence[Latency] = ()  # one a batch size
    points: Sequence[Points] = ()
    lines: Sequence[Line] = ()  # the closing table of a search
    curve: Curve | None = None
    snippets: Sequence[Snippet] = ()
    command: str | None = None  # makes the same run again
    facts: Sequence[Facts] = ()
    notes: Sequence[str] = ()  # what a reader has to know: sentences
