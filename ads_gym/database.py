"""SQLite files of this program: created whole, checked before a byte is written, with errors in plain words."""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from ads_gym import files
from ads_gym.errors import DamagedFile, InvalidValue, StorageError, shown

IN_MEMORY = ":memory:"
ENDINGS = ("", "-journal", "-wal", "-shm")  # of the files that SQLite makes of one
WAIT_SECONDS = 60.0  # for another process that is committing


class Schema(NamedTuple):
    """What a kind of file holds."""

    what: str  # its name in messages: "store of evaluations"
    application_id: int  # in the header of every such file: a database without it is somebody else's
    version: int
    tables: tuple[str, ...]  # CREATE statements


class Database:
    """A connection to a file of one schema. Several processes may use one file at once (threads: one at a time).

    A file that is there already is checked before anything is written to it.

    Args:
        path: created if it is missing, its folder too; ":memory:" = a database that ends with this object.
        schema: what the file holds.

    Raises:
        DamagedFile: another file, a damaged one, or one of another version; it is left as it was.
        StorageError: no space, no permission, a file that another program holds.
    """

    def __init__(self, path: str | Path, schema: Schema) -> None:
        is_in_memory = isinstance(path, str) and path == IN_MEMORY
        self.path, self._schema = IN_MEMORY if is_in_memory else str(files.resolve(path)), schema
        with self.errors():
            if self.path == IN_MEMORY:
                self.connection = _connect(IN_MEMORY)
                for table in schema.tables:
                    self.connection.execute(table)
                return
            file = Path(self.path)
            if not file.exists():
                _create(file, schema)
            files.check_no_link(file, *(file.with_name(file.name + ending) for ending in ENDINGS[1:]))
            _check_header(file, schema)
            self.connection = _connect(_uri(file, "rw"))
            try:
                _check_content(self.connection, file, schema)
                # Whether we may write shows now, and not after the first evaluation is paid.
                self.connection.execute("BEGIN IMMEDIATE")
                self.connection.execute("COMMIT")
            except BaseException:
                self.connection.close()
                raise

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.errors():
            return self.connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is executed within, all of it or nothing."""
        with self.errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def errors(self) -> Any:
        """Context in which errors of SQLite and of the file system become ours."""
        return _errors_of(self._schema.what, self.path)

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        with self.errors():
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _uri(file: Path, mode: str) -> str:
    return f"{file.absolute().as_uri()}?mode={mode}"


def _connect(uri: str) -> sqlite3.Connection:
    """In autocommit: a transaction is what we begin and end."""
    return sqlite3.connect(uri, timeout=WAIT_SECONDS, isolation_level=None, uri=True, check_same_thread=False)


def _create(file: Path, schema: Schema) -> None:
    """Create an empty file under another name and then give it this one: nobody ever sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))  # less what the umask takes away
    try:
        with closing(_connect(_uri(draft, "rw"))) as database:
            database.execute(f"PRAGMA application_id = {schema.application_id}")
            database.execute(f"PRAGMA user_version = {schema.version}")
            for table in schema.tables:
                database.execute(table)
            database.execute("PRAGMA journal_mode = wal")
        try:
            os.link(draft, file)  # fails, rather than replaces, where another process was quicker
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            draft.replace(file)
    finally:
        for ending in ENDINGS:
            draft.with_name(draft.name + ending).unlink(missing_ok=True)


def _check_header(file: Path, schema: Schema) -> None:
    """Check that a file has our mark, without writing a byte; SQLite sees no file that lacks it.

    (SQLite's own read-only mode leaves -wal and -shm files beside a foreign database.)
    """
    with file.open("rb") as stream:
        header = stream.read(100)
    mark, version = int.from_bytes(header[68:72]), int.from_bytes(header[60:64])  # see sqlite.org/fileformat.html
    if not header.startswith(b"SQLite format 3\0") or mark != schema.application_id:
        raise DamagedFile(f"{file} is no {schema.what}. It was left as it is; give another path.")
    if version != schema.version:
        advice = "upgrade ads-gym, or give" if version > schema.version else "it is of an older ads-gym: give"
        raise DamagedFile(
            f"the {schema.what} {file} has version {version}, and this ads-gym reads {schema.version}. It was left "
            f"as it is; {advice} another path."
        )


def _check_content(connection: sqlite3.Connection, file: Path, schema: Schema) -> None:
    """Check that a file has our tables and nothing else, then its pages, types and CHECK constraints.

    (On a connection that may write: SQLite knows no CHECK of a file that was opened to be read only.)
    """
    connection.execute("PRAGMA trusted_schema = off")
    query = "SELECT type, sql FROM sqlite_schema WHERE sql NOT NULL"
    found = connection.execute(query).fetchmany(len(schema.tables) + 1)
    if found != [("table", table) for table in schema.tables]:  # no other tables, triggers, views, indexes
        raise DamagedFile(f"the {schema.what} {file} has other tables than it should have: {shown(found)}.")
    if (trouble := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        trouble = trouble.splitlines()[-1]
        raise DamagedFile(f"the {schema.what} {file} is damaged: {trouble}. Restore it, or give another path.")


_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


@contextmanager
def _errors_of(what: str, path: str) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into one line that says what to do."""
    try:
        yield
    except (sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
        raise InvalidValue(f"the {what} {path} cannot hold this: {error}. Nothing was stored.") from error
    except sqlite3.ProgrammingError as error:
        raise InvalidValue(f"the {what} {path} cannot be used any more: {error}") from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _HELD:
            raise StorageError(f"the {what} {path} is held by another program; try again later ({error}).") from error
        if code in _REFUSED:
            raise StorageError(f"the {what} {path} cannot be written: {_why_not(path)} ({error}).") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StorageError(f"the {what} {path} cannot be written: no space left? ({error})") from error
        raise DamagedFile(f"the {what} {path} is damaged: {error}. Restore it, or give another path.") from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"the {what} {path} cannot be opened: {files.reason(error)}.") from error


def _why_not(path: str) -> str:
    """Why SQLite cannot open the files that it needs (the database, its journal and that one's index)."""
    with ExitStack() as stack:
        try:
            for _ in ENDINGS[1:]:
                stack.enter_context(Path(path).open("r+b"))
        except OSError as error:
            return files.reason(error)
    return "no permission"
