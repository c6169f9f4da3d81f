"""history.csv: a line for every evaluation of a run, in the order in which they were paid for."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ads_gym.errors import DamagedFile, NotFound, StorageError
from ads_gym.evaluators.base import Metrics


@dataclass(frozen=True)
class Row:
    """One evaluation."""

    index: int  # from 1
    mask: bytes  # as `Topology.key` writes it
    metrics: Metrics
    reward: float  # the score of the mask: the undiscounted return of an episode that ends with it
    episode: int  # which episode asked for it, from 1; a mask scored without being played is an episode too
    seconds: float  # that its evaluation took; those of a batch share alike


_METRICS = Metrics.__annotations__  # name -> float or int
_HEADER = ",".join(("index", "mask", *_METRICS, "reward", "episode", "seconds"))


def best_of(rows: Sequence[Row]) -> Row:
    """The row with the highest reward; of several the one of least loss, then the earliest."""
    return max(rows, key=lambda row: (row.reward, -row.metrics.loss, -row.index))


def read_history(path: Path, mask_bytes: int) -> list[Row]:
    """The rows of a history, without a last line that a kill tore.

    Args:
        path: of history.csv.
        mask_bytes: length of a mask's key.

    Raises:
        NotFound, StorageError: no such file, or one that cannot be read.
        DamagedFile: some line is none that we wrote.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no history {path}.") from error
    except OSError as error:
        raise StorageError(f"the history {path} cannot be read: {error.strerror}.") from error
    return _parse(content, path, mask_bytes)


class History:
    """A history that is being written; one process at a time.

    Args:
        path: of history.csv; begun if it is not there, without its last line if that was torn by a kill.
        mask_bytes: length of a mask's key.

    Raises:
        DamagedFile: some line is none that we wrote; the file is left as it was.
        StorageError: it cannot be read or written, or another process is writing it.
    """

    def __init__(self, path: Path, mask_bytes: int) -> None:
        self.path = path
        try:
            self._file = path.open("a+b", buffering=0)
            try:
                _lock(self._file.fileno(), path)
                self._file.seek(0)
                content = self._file.readall()
                self.rows = _parse(content, path, mask_bytes)
                self._file.truncate(content.rfind(b"\n") + 1)
                if b"\n" not in content:
                    self._file.write(f"{_HEADER}\n".encode())
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise _storage_error(path, error) from error

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows to the file and to `rows`.

        Raises:
            StorageError: no space; then none is added.
        """
        end = self._file.seek(0, os.SEEK_END)
        content = memoryview("".join(_line(row) for row in rows).encode())
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            self._file.truncate(end)
            raise _storage_error(self.path, error) from error
        self.rows += rows

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(row: Row) -> str:
    """repr of a float gives back the same float."""
    metrics = [repr(kind(getattr(row.metrics, name))) for name, kind in _METRICS.items()]
    rest = (repr(float(row.reward)), str(row.episode), f"{row.seconds:.6f}")
    return ",".join((str(row.index), row.mask.hex(), *metrics, *rest)) + "\n"


def _parse(content: bytes, path: Path, mask_bytes: int) -> list[Row]:
    """Rows of all whole lines."""
    *lines, torn = content.decode("utf-8", "replace").split("\n")
    if lines[:1] != [_HEADER] and (lines or not _HEADER.startswith(torn)):
        raise DamagedFile(f"{path} is no history of a search: it begins with {content[:60]!r}.")
    rows: list[Row] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append(_row(line, mask_bytes, len(rows) + 1))
        except (ValueError, TypeError) as error:
            raise DamagedFile(f"line {number} of {path} is damaged ({error}): {line!r:.60}.") from error
    return rows


def _row(line: str, mask_bytes: int, index: int) -> Row:
    first, mask, *numbers, reward, episode, seconds = line.split(",")
    if int(first) != index or len(mask) != 2 * mask_bytes:
        raise ValueError(f"expected index {index} and a mask of {2 * mask_bytes} hex digits")
    values = {name: kind(number) for (name, kind), number in zip(_METRICS.items(), numbers, strict=True)}
    return Row(index, bytes.fromhex(mask), Metrics(**values), float(reward), int(episode), float(seconds))


def _lock(descriptor: int, path: Path) -> None:
    """Until the file is closed or the process dies, however it dies."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes in one run folder are then the user's to avoid
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageError(
            f"another process is searching in {path.parent}: wait for it, or give another folder."
        ) from error


def _storage_error(path: Path, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    return StorageError(f"the history {path} cannot be written: {error.strerror}.")
