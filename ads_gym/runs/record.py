"""The record of a run: its evaluations in their order, in an SQLite file."""

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ads_gym import files, limits
from ads_gym.database import Schema
from ads_gym.errors import AdsGymError, DamagedFile
from ads_gym.evaluators.base import FIELD_TYPES, Metrics
from ads_gym.evaluators.store import EVALUATIONS, EvaluationStore, column, insert_metrics
from ads_gym.topology import Topology

HISTORY = (
    "CREATE TABLE history (number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, mask BLOB NOT NULL UNIQUE, "
    f"{column('objective', float)}, {column('episode', int)}, {column('seconds', float)}, {column('charged', int)}"
    ") STRICT"
)
_INSERT = "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = (
    f"SELECT number, mask, {', '.join(FIELD_TYPES)}, objective, episode, seconds, charged "
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
    charged: int = 0  # evaluations that were charged before it, for what is none and costs as much (`Problem.charge`)

    @property
    def spent(self) -> int:
        """Of the budget, after this evaluation."""
        return self.number + self.charged


class RunRecord(EvaluationStore):
    """An evaluation store with a second table: which evaluations the run paid for, in their order.

    Metrics that the run itself needs (of the dense network, of the closing table) are in the first table only.

    Args:
        path: created if it is missing.

    Raises:
        DamagedFile, StorageError: as `EvaluationStore`.
    """

    schema = Schema("record of a run", 0x41445352, 3, (EVALUATIONS, HISTORY))  # "ADSR"

    def append(self, fingerprint: str, rows: Sequence[Row]) -> None:
        """Commit evaluations with their metrics, all or none.

        Raises:
            StorageError: no space.
        """
        with self.database.transaction() as connection:
            insert_metrics(connection, fingerprint, {row.mask: row.metrics for row in rows})
            values = [
                (row.number, fingerprint, row.mask, row.objective, row.episode, row.seconds, row.charged)
                for row in rows
            ]
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
            is_charged = row.charged >= (rows[number - 2].charged if number > 1 else 0)
            if row.number != number or not is_charged or not (topology is None or topology.is_key(row.mask)):
                raise DamagedFile(
                    f"the record of a run {self.path} is damaged: evaluation {number} is missing, or its mask is none "
                    "of this network, or fewer evaluations are charged than before it. Restore it, or give another "
                    "path."
                )
        ((count,),) = self.database.rows("SELECT count(*) FROM history")
        if count != len(rows):
            raise DamagedFile(
                f"the record of a run {self.path} is damaged: of its {count} evaluations, {count - len(rows)} are "
                "another evaluator's, or lack metrics. Restore it, or give another path."
            )
        return rows


class ReadRecord(RunRecord):
    """The record of a run that is over, which says by itself which evaluator's it is."""

    def rows(self, topology: Topology) -> list[Row]:
        """Return all evaluations of the run; errors as `history`, and where there is none."""
        rows = self.history(self._fingerprint(), topology)
        if not rows:
            raise DamagedFile(f"the record of a run {self.path} is empty. Restore it, or give another path.")
        return rows

    def metrics(self) -> tuple[dict[bytes, Metrics], list[dict[bytes, Metrics]]]:
        """Return all metrics by mask, of the run's evaluator and of each other one."""
        by_fingerprint: dict[str, dict[bytes, Metrics]] = {self._fingerprint(): {}}
        for fingerprint, mask, *values in self.database.rows(
            f"SELECT fingerprint, mask, {', '.join(FIELD_TYPES)} FROM evaluations ORDER BY fingerprint, mask"
        ):
            by_fingerprint.setdefault(fingerprint, {})[mask] = Metrics(*values)
        mine, *others = by_fingerprint.values()
        return mine, others

    def _fingerprint(self) -> str:
        """Of the evaluator; `history` refuses a record with several."""
        found = self.database.rows("SELECT fingerprint FROM history LIMIT 1")
        return str(found[0][0]) if found else ""


@contextmanager
def read_record(path: Path) -> Iterator[ReadRecord]:
    """The record of a run that is over, of which a copy is read: SQLite writes beside whatever it opens.

    Args:
        path: of the record, which no process writes.

    Raises:
        NotFound: there is none.
        DamagedFile, StorageError: as `RunRecord`; both name the record, and not the copy.
    """
    with tempfile.TemporaryDirectory(prefix="ads-gym-") as folder:
        copy = Path(folder) / path.name
        _copy(path, copy)
        log = path.with_name(f"{path.name}-wal")  # what a process that was killed has not put into the file yet
        if files.exists(log):
            _copy(log, copy.with_name(log.name))
        try:
            with ReadRecord(copy) as record:
                yield record
        except AdsGymError as error:
            raise type(error)(str(error).replace(str(copy), str(path))) from error


def _copy(path: Path, copy: Path) -> None:
    with (
        files.opened(path, RunRecord.schema.what, limits.MAX_TENSORS_BYTES) as source,
        files.file_errors(copy, "written"),
        copy.open("xb") as target,
    ):
        shutil.copyfileobj(source, target)


def best_of(rows: Sequence[Row]) -> Row:
    """Return the row with the highest objective; of several the one of least loss, then the earliest."""
    return max(rows, key=lambda row: (row.objective, -row.metrics.loss, -row.number))


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV, a header first; masks in hex, floats so that they read back the same."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("number", "mask", *FIELD_TYPES, "objective", "episode", "charged", "seconds"))
    for row in rows:
        metrics: Mapping[str, float] = vars(row.metrics)
        writer.writerow(
            (
                *(row.number, row.mask.hex(), *metrics.values()),
                *(row.objective, row.episode, row.charged, f"{row.seconds:.6f}"),
            )
        )
    return text.getvalue()
