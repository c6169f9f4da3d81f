"""`SearchResult`, what a search returns: best architecture, metrics, lines of the closing table."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ads_gym.architecture import Architecture
from ads_gym.errors import DamagedFile
from ads_gym.evaluators.base import Metrics
from ads_gym.runs.recorder import StoppedBy


@dataclass(frozen=True)
class Line:
    """A line of the closing table: one network, or the mean of several."""

    name: str
    objective: float  # what the search maximises
    accuracy: float  # share of VALID images classified right, 0 to 1
    soft_accuracy: float  # mean probability of the true class, 0 to 1
    loss: float  # nats
    relative_macs: float  # MACs / dense MACs
    relative_cost: float  # 0 for the chain, 1 for the dense network
    parameters: float
    masks: int = 1  # how many networks these are means of
    objective_sd: float = 0.0  # standard deviation between them


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
    metrics: Metrics  # its inherited ones, on VALID
    objective: float  # what was maximised
    evaluations: int  # recorded
    episodes: int  # played, or masks asked for without playing
    stopped_by: StoppedBy  # why the run is over
    table: tuple[Line, ...]  # dense, chain, random masks of the best's relative cost, best
    stored: Stored | None = None  # None: this call played the run

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; without folder and `stored`."""
        return {
            "architecture": json.loads(self.architecture.to_json()),
            "metrics": asdict(self.metrics),
            "objective": self.objective,
            "evaluations": self.evaluations,
            "episodes": self.episodes,
            "stopped_by": str(self.stopped_by),
            "table": [asdict(line) for line in self.table],
        }

    @classmethod
    def from_dict(cls, folder: Path, values: Any, date: str) -> "SearchResult":
        """The inverse of `to_dict`; `date` is that of the run.

        Raises:
            DamagedFile: not what `to_dict` writes.
        """
        try:
            return cls(
                folder,
                Architecture.from_json(json.dumps(values["architecture"])),
                Metrics(**values["metrics"]),
                float(values["objective"]),
                int(values["evaluations"]),
                int(values["episodes"]),
                StoppedBy(values["stopped_by"]),
                tuple(Line(**line) for line in values["table"]),
                Stored(date, int(values["evaluations"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFile(f"the result of the run in {folder} cannot be read: {error}") from error
