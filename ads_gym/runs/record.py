"""The record of a run: its evaluations in their order, in an SQLite file."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ads_gym.database import Schema
from ads_gym.errors import DamagedFile
from ads_gym.evaluators.base import FIELD_TYPES, Metrics
from ads_gym.evaluators.store import EVALUATIONS, EvaluationStore, column, insert_metrics
from ads_gym.topology import Topology

HISTORY = (
    "CREATE TABLE history (number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, mask BLOB NOT NULL UNIQUE, "
    f"{column('objective', float)}, {column('episode', int)}, {column('seconds', float)}) STRICT"
)
_INSERT = "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)"
_SELECT = (
    f"SELECT number, mask, {', '.join(FIELD_TYPES)}, objective, episode, seconds "
    "FROM history JOIN evaluations USING (fingerprint, mask) WHERE fingerprint = ? ORDER BY number"
)


@dataclass(frozen=True)
class Row:
    """One evaluation of a run."""

    number: int  # from 1
    mask: bytes  # as `Topology.key` writes it
    metrics: Metrics
    objective: float
    episode: int  # which episode asked for it, from 1; a mask that was scored without being played is an episode too
    seconds: float  # that its evaluation took; those of a batch share alike


class RunRecord(EvaluationStore):
    """An evaluation store with a second table: which evaluations the run paid for, in their order.

    Metrics that the run itself needs (of the dense network, of the closing table) are in the first table only.

    Args:
        path: created if it is missing.

    Raises:
        DamagedFile, StorageError: as `EvaluationStore`.
    """

    schema = Schema("record of a run", 0x41445352, 2, (EVALUATIONS, HISTORY))  # "ADSR"

    def append(self, fingerprint: str, rows: Sequence[Row]) -> None:
        """Commit evaluations with their metrics, all or none.

        Raises:
            StorageError: no space.
        """
        with self.database.transaction() as connection:
            insert_metrics(connection, fingerprint, {row.mask: row.metrics for row in rows})
            values = [(row.number, fingerprint, row.mask, row.objective, row.episode, row.seconds) for row in rows]
            connection.executemany(_INSERT, values)

    def history(self, fingerprint: str, topology: Topology | None = None) -> list[Row]:
        """Return all evaluations of a run.

        Args:
            fingerprint: of its evaluator.
            topology: whose masks were evaluated; None: masks are not checked.

        Raises:
            DamagedFile: evaluations are missing between others, or are another evaluator's, or masks are no masks of
                the topology.
        """
        width = len(FIELD_TYPES)
        rows = [
            Row(number, mask, Metrics(*rest[:width]), *rest[width:])
            for number, mask, *rest in self.database.rows(_SELECT, (fingerprint,))
        ]
        for number, row in enumerate(rows, start=1):
            if row.number != number or not (topology is None or topology.is_key(row.mask)):
                raise DamagedFile(
                    f"the record of a run {self.path} is damaged: evaluation {number} is missing, or its mask is none "
                    "of this network. Restore it, or give another path."
                )
        ((count,),) = self.database.rows("SELECT count(*) FROM history")
        if count != len(rows):
            raise DamagedFile(
                f"the record of a run {self.path} is damaged: of its {count} evaluations, {count - len(rows)} are "
                "another evaluator's, or lack metrics. Restore it, or give another path."
            )
        return rows


def best_of(rows: Sequence[Row]) -> Row:
    """Return the row with the highest objective; of several the one of least loss, then the earliest."""
    return max(rows, key=lambda row: (row.objective, -row.metrics.loss, -row.number))


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV, a header first; masks in hex, floats so that they read back the same."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("number", "mask", *FIELD_TYPES, "objective", "episode", "seconds"))
    for row in rows:
        metrics: Mapping[str, float] = vars(row.metrics)
        writer.writerow(
            (row.number, row.mask.hex(), *metrics.values(), row.objective, row.episode, f"{row.seconds:.6f}")
        )
    return text.getvalue()
