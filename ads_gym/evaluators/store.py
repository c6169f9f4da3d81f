"""Every evaluation ever paid for, in an SQLite file: looked up before it is paid, committed before it is handed on."""

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, fields
from math import isnan
from pathlib import Path
from typing import Any, Self

import numpy as np

from ads_gym.errors import DamagedFile, InvalidValue, StorageError
from ads_gym.evaluators.base import Evaluator, EvaluatorWrapper, Metrics
from ads_gym.topology import BoolArray

IN_MEMORY = ":memory:"
APPLICATION_ID = 0x41445347  # "ADSG", in the header of every store: a database without it is somebody else's
SCHEMA_VERSION = 1
WAIT_SECONDS = 60.0  # for another process that is committing

_TYPES = {float: "REAL", int: "INTEGER"}
_KINDS: dict[str, Any] = {field.name: field.type for field in fields(Metrics)}
_TABLE = (
    "CREATE TABLE evaluations (fingerprint TEXT NOT NULL, mask BLOB NOT NULL, "
    + ", ".join(f"{name} {_TYPES[kind]} NOT NULL" for name, kind in _KINDS.items())
    + ", PRIMARY KEY (fingerprint, mask)) WITHOUT ROWID"
)
_SELECT = f"SELECT {', '.join(_KINDS)} FROM evaluations WHERE fingerprint = ? AND mask = ?"
_INSERT = f"INSERT OR IGNORE INTO evaluations VALUES (?, ?, {', '.join('?' * len(_KINDS))})"


class EvaluationStore:
    """Metrics by evaluator fingerprint and mask. Several processes may use one file at once (threads: one at a time).

    A file that is there is read, and found to be a store of a version that we know, before anything is written to it.

    Args:
        path: made if it is not there, its folder too; ":memory:" = a store that ends with this object.

    Raises:
        DamagedFile: a file that is no store, a damaged one, or one of a newer version; it is left as it was.
        StorageError: no space, no permission, a file that another program holds.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        with _errors_of(self.path):
            if self.path == IN_MEMORY:
                self._database = _connect(IN_MEMORY)
                self._database.execute(_TABLE)
                return
            file = Path(self.path)
            if not file.exists():
                _create(file)
            _check(file)
            self._database = _connect(_uri(file, "rw"))
            # Whether we may write shows now, and not after the first evaluation is paid.
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("COMMIT")

    def read(self, fingerprint: str, masks: Iterable[bytes]) -> dict[bytes, Metrics]:
        """The metrics of those masks (as `Topology.key` writes them) that are stored."""
        found = {}
        with _errors_of(self.path):
            for mask in masks:
                row = self._database.execute(_SELECT, (fingerprint, mask)).fetchone()
                if row is not None:
                    found[mask] = Metrics(*row)
        return found

    def add(self, fingerprint: str, metrics: Mapping[bytes, Metrics]) -> dict[bytes, Metrics]:
        """Commits metrics by mask, all or none, and gives back what is now stored: what was there first stands."""
        rows = [(fingerprint, mask, *astuple(values)) for mask, values in metrics.items()]
        with _errors_of(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(_INSERT, rows)
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        return self.read(fingerprint, metrics)

    def __len__(self) -> int:
        with _errors_of(self.path):
            return int(self._database.execute("SELECT count(*) FROM evaluations").fetchone()[0])

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        """A copy, in another process too, opens the same file (in memory: begins empty)."""
        return type(self), (self.path,)

    def close(self) -> None:
        """Lets go of the file. Closing twice is fine."""
        with _errors_of(self.path):
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StoredEvaluator(EvaluatorWrapper):
    """An evaluator whose every evaluation is looked up in a store first, and committed there before it is handed on.

    One commit a batch; a mask that a batch holds twice is paid once.

    Args:
        inner: what evaluates the masks that are not stored.
        store: where; many evaluators may share one.
    """

    def __init__(self, inner: Evaluator, store: EvaluationStore) -> None:
        super().__init__(inner)
        self.store = store

    def evaluate(self, masks: BoolArray) -> list[Metrics]:
        """One Metrics for each of masks bool[n, E].

        Raises:
            InvalidValue: masks of another topology; an evaluator whose answer is no metrics.
            StorageError, DamagedFile: the store cannot be read or written.
        """
        masks = np.atleast_2d(self.topology.check_masks(masks))
        keys = [self.topology.key(mask) for mask in masks]
        known = self.store.read(self.fingerprint, dict.fromkeys(keys))
        missing = {key: mask for key, mask in zip(keys, masks, strict=True) if key not in known}
        if missing:
            paid = check_metrics(self.inner.evaluate(np.stack(list(missing.values()))), len(missing))
            known |= self.store.add(self.fingerprint, dict(zip(missing, paid, strict=True)))
        return [known[key] for key in keys]


def check_metrics(metrics: list[Metrics], count: int) -> list[Metrics]:
    """`metrics` as plain floats and ints, if an evaluator may give them for `count` masks.

    Raises:
        InvalidValue: not one for each mask, or a value that is no number.
    """
    if len(metrics) != count:
        raise InvalidValue(f"the evaluator was asked for {count} masks and gave {len(metrics)} metrics.")
    for values in metrics:
        if not isinstance(values, Metrics):
            raise InvalidValue(f"an evaluator gives Metrics, got {values!r:.60}.")
        if any(isnan(value) for value in vars(values).values()):
            raise InvalidValue(f"the evaluator gave a value that is no number: {values}.")
    return [Metrics(**{name: _KINDS[name](value) for name, value in vars(values).items()}) for values in metrics]


def _uri(file: Path, mode: str) -> str:
    return f"{file.absolute().as_uri()}?mode={mode}"


def _connect(uri: str) -> sqlite3.Connection:
    """In autocommit: a transaction is what we begin and end."""
    return sqlite3.connect(uri, timeout=WAIT_SECONDS, isolation_level=None, uri=True, check_same_thread=False)


def _create(file: Path) -> None:
    """Makes an empty store under another name and then gives it this one: nobody ever sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".store-", dir=file.parent)
    os.close(handle)
    draft = Path(name)
    try:
        with closing(_connect(_uri(draft, "rw"))) as database:
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            database.execute(_TABLE)
            database.execute("PRAGMA journal_mode = wal")
        draft.chmod(0o644)  # mkstemp's files are the owner's alone
        try:
            os.link(draft, file)  # fails, rather than replaces, where another process was quicker
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            draft.replace(file)
    finally:
        for left in (draft, Path(f"{name}-journal"), Path(f"{name}-wal"), Path(f"{name}-shm")):
            left.unlink(missing_ok=True)


def _check(file: Path) -> None:
    """Finds a store that we can use, without writing a byte; SQLite sees no file that lacks our mark.

    (SQLite's own read-only mode leaves -wal and -shm files beside a foreign database.)
    """
    with file.open("rb") as stream:
        header = stream.read(100)
    mark, version = int.from_bytes(header[68:72]), int.from_bytes(header[60:64])  # see sqlite.org/fileformat.html
    if not header.startswith(b"SQLite format 3\0") or mark != APPLICATION_ID:
        raise DamagedFile(f"{file} is no store of evaluations. It was left as it is; give another path.")
    if version != SCHEMA_VERSION:
        raise DamagedFile(
            f"the store {file} has version {version}, and this ads-gym reads {SCHEMA_VERSION}. It was left as it is; "
            "upgrade ads-gym, or give another path."
        )
    with closing(_connect(_uri(file, "ro"))) as database:
        if (schema := database.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'").fetchall()) != [(_TABLE,)]:
            raise DamagedFile(f"the store {file} has other tables than a store has: {schema!r:.200}.")
        if (trouble := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            trouble = trouble.splitlines()[-1]
            raise DamagedFile(f"the store {file} is damaged: {trouble}. Restore it, or give another path.")


_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


@contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """What SQLite and the file system say, as one line that says what to do."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise InvalidValue(f"the store {path} cannot be used any more: {error}") from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _HELD:
            raise StorageError(f"the store {path} is held by another program; try again later ({error}).") from error
        if code in _REFUSED:
            raise StorageError(f"the store {path} cannot be written: no permission ({error}).") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StorageError(f"the store {path} cannot be written: no space left? ({error})") from error
        raise DamagedFile(f"the store {path} is damaged: {error}. Restore it, or give another path.") from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        why = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise StorageError(f"the store {path} cannot be opened: {why}.") from error
