"""`SearchResult`, what a search returns: best architecture, metrics, lines of the closing table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, FailFast, Field

from ads_gym.architecture import Architecture, ArchitectureRecord
from ads_gym.evaluators.base import Metrics, check_metrics
from ads_gym.limits import MAX_EVALUATIONS
from ads_gym.records import Count, Name, Number, record
from ads_gym.runs.recorder import StoppedBy

Evaluations = Annotated[int, Field(ge=1, le=MAX_EVALUATIONS)]


@record
class Line:
    """A line of the closing table: one network, or the mean of several."""

    name: Name
    objective: Number  # what the search maximises
    accuracy: Number  # share of VALID images classified right, 0 to 1
    soft_accuracy: Number  # mean probability of the true class, 0 to 1
    loss: Number  # nats
    relative_macs: Number  # MACs / dense MACs
    relative_cost: Number  # 0 for the chain, 1 for the dense network
    parameters: Number
    masks: Count = 1  # how many networks these are means of
    objective_sd: Number = 0.0  # standard deviation between them
    inherited_accuracy: Number | None = None  # with these weights, where networks of a task were scored, 0 to 1
    repaired_accuracy: Number | None = None


@dataclass(frozen=True)
class Stored:
    """A result that was shown again instead of being computed."""

    date: str  # when the run ended, ISO 8601; of an unfinished run, when it began
    evaluations: int  # of the run: more than of the result, where a smaller budget was asked for


@dataclass(frozen=True)
class SearchResult:
    """The best architecture of a run's record, and the networks that it is compared with."""

    folder: Path  # of the run
    architecture: Architecture  # the best
    metrics: Metrics  # its own on VALID, with the weights of the search
    objective: float  # what was maximised
    evaluations: int  # recorded
    episodes: int  # played, or masks asked for without playing
    stopped_by: StoppedBy  # why the run is over
    table: tuple[Line, ...]  # dense, chain, of the best's cost random masks and (with a network) `residual`, best
    stored: Stored | None = None  # None: this call played the run
    charged: int = 0  # evaluations of the budget, for what is none and costs as much (`Problem.charge`)

    @property
    def counts(self) -> str:
        """How much was searched, in words."""
        told = _count(self.evaluations, "evaluation")
        if self.charged:
            told += f" (and what costs as much as {self.charged} more)"
        return f"{told} in {_count(self.episodes, 'episode')}"

    def to_record(self) -> "ResultRecord":
        """As a manifest holds it; without folder and `stored`."""
        return ResultRecord(
            self.architecture.to_record(),
            self.metrics,
            self.objective,
            self.evaluations,
            self.episodes,
            self.stopped_by,
            self.table,
            self.charged,
        )

    @classmethod
    def from_record(cls, folder: Path, found: "ResultRecord", date: str) -> "SearchResult":
        """The inverse of `to_record`; `date` is that of the run.

        Raises:
            InvalidValue: a mask of another length than the network has skip connections.
        """
        return cls(
            folder,
            Architecture.from_record(found.architecture),
            found.metrics,
            found.objective,
            found.evaluations,
            found.episodes,
            found.stopped_by,
            found.table,
            Stored(date, found.evaluations),
            found.charged,
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _checked_metrics(metrics: Metrics) -> Metrics:
    """Within the limits that a store has too."""
    return check_metrics([metrics], 1)[0]


@record
class ResultRecord:
    """A `SearchResult` as a manifest holds it."""

    architecture: ArchitectureRecord
    metrics: Annotated[Metrics, AfterValidator(_checked_metrics)]
    objective: Number
    evaluations: Evaluations
    episodes: Count
    stopped_by: Annotated[StoppedBy, BeforeValidator(StoppedBy)]
    table: Annotated[tuple[Line, ...], Field(min_length=1, max_length=100), FailFast()]
    charged: Count = 0
