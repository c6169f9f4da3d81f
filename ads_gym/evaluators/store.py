"""Persistent store of evaluations in SQLite: metrics are committed before they are returned."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from sqlite3 import Connection
from typing import Self

import numpy as np

from ads_gym.database import IN_MEMORY, Database, Schema
from ads_gym.errors import InvalidValue, shown
from ads_gym.evaluators.base import FIELD_TYPES, MAX_METRIC, Evaluator, EvaluatorWrapper, Metrics
from ads_gym.topology import BoolArray

__all__ = ["IN_MEMORY", "EvaluationStore", "StoredEvaluator"]

_SQL_TYPES = {float: "REAL", int: "INTEGER"}


def column(name: str, kind: type[float] | type[int]) -> str:
    """A column of numbers within the limits of metrics: those of other types or sizes are damage, found on opening."""
    low, high = (-MAX_METRIC, MAX_METRIC) if kind is float else (0, 2**63 - 1)
    return f"{name} {_SQL_TYPES[kind]} NOT NULL CHECK ({name} BETWEEN {low!r} AND {high!r})"


EVALUATIONS = (
    "CREATE TABLE evaluations (fingerprint TEXT NOT NULL, mask BLOB NOT NULL, "
    + ", ".join(column(name, kind) for name, kind in FIELD_TYPES.items())
    + ", PRIMARY KEY (fingerprint, mask)) STRICT, WITHOUT ROWID"
)
_SELECT = f"SELECT {', '.join(FIELD_TYPES)} FROM evaluations WHERE fingerprint = ? AND mask = ?"
_INSERT = (  # a NaN, which SQLite takes for NULL, is an error (INSERT OR IGNORE would leave it out)
    f"INSERT INTO evaluations VALUES (?, ?, {', '.join('?' * len(FIELD_TYPES))}) "
    "ON CONFLICT (fingerprint, mask) DO NOTHING"
)


class EvaluationStore:
    """Metrics by evaluator fingerprint and mask. Several processes may use one file at once (threads: one at a time).

    Args:
        path: created if it is missing, its folder too; ":memory:" = a store that ends with this object.

    Raises:
        DamagedFile: a file that is no store, a damaged one, or one of another version; it is left as it was.
        StorageError: no space, no permission, a file that another program holds.
    """

    schema = Schema("store", 0x41445347, 2, (EVALUATIONS,))  # "ADSG"

    def __init__(self, path: str | Path) -> None:
        self.database = Database(path, self.schema)
        self.path = self.database.path

    def read(self, fingerprint: str, masks: Iterable[bytes]) -> dict[bytes, Metrics]:
        """Return the metrics of those masks (as `Topology.key` writes them) that are stored.

        Raises:
            InvalidValue: no keys.
        """
        if not isinstance(masks, Iterable):
            raise InvalidValue(f"masks are keys of `Topology.key`, got {shown(masks)}.")
        found = {}
        for mask in masks:
            for row in self.database.rows(_SELECT, (fingerprint, mask)):
                found[mask] = Metrics(*row)
        return found

    def add(self, fingerprint: str, metrics: Mapping[bytes, Metrics]) -> dict[bytes, Metrics]:
        """Commit metrics by mask, all or none, and return what is now stored: what was there first stands.

        Raises:
            InvalidValue: no metrics by keys of `Topology.key`, or metrics beyond all limits.
        """
        with self.database.transaction() as connection:
            insert_metrics(connection, fingerprint, metrics)
        return self.read(fingerprint, metrics)

    def __len__(self) -> int:
        return int(self.database.rows("SELECT count(*) FROM evaluations")[0][0])

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        """A copy, in another process too, opens the same file (in memory: begins empty)."""
        return type(self), (self.path,)

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def insert_metrics(connection: Connection, fingerprint: str, metrics: Mapping[bytes, Metrics]) -> None:
    """Insert metrics by mask within a transaction; a mask that is stored already stays as it is."""
    for mask, values in metrics.items() if isinstance(metrics, Mapping) else [(None, metrics)]:
        if not isinstance(mask, bytes) or not isinstance(values, Metrics):
            raise InvalidValue(f"a store holds Metrics by the key of a mask, got {shown(values)} by {shown(mask)}.")
    connection.executemany(_INSERT, [(fingerprint, mask, *vars(values).values()) for mask, values in metrics.items()])


class StoredEvaluator(EvaluatorWrapper):
    """An evaluator whose every evaluation is looked up in a store first, and committed there before it is handed on.

    One commit a batch; a mask that a batch holds twice is paid once.

    Args:
        inner: evaluates the masks that are not stored.
        store: an `EvaluationStore`, which many evaluators may share and whoever made it closes; or a path, opened now
            and closed with this evaluator.
    """

    def __init__(self, inner: Evaluator, store: "EvaluationStore | str | Path") -> None:
        super().__init__(inner)
        self._is_ours = not isinstance(store, EvaluationStore)
        self.store = store if isinstance(store, EvaluationStore) else EvaluationStore(store)

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return one Metrics for each of masks bool [n, E].

        Raises:
            StorageError, DamagedFile: the store cannot be read or written.
        """
        keys = [self.topology.key(mask) for mask in masks]
        known = self.store.read(self.fingerprint, dict.fromkeys(keys))
        missing = {key: mask for key, mask in zip(keys, masks, strict=True) if key not in known}
        if missing:
            paid = self.inner.evaluate_checked(np.stack(list(missing.values())))
            known |= self.store.add(self.fingerprint, dict(zip(missing, paid, strict=True)))
        return [known[key] for key in keys]

    def close(self) -> None:
        """Close the inner evaluator, and the store if this evaluator opened it."""
        super().close()
        if self._is_ours:
            self.store.close()
