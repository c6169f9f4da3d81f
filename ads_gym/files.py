"""Reading, writing and locking files: every error is one plain sentence, every write leaves a whole file.

The bottom layer: it knows paths and bytes, and nothing of what is in them. What is read is a regular file of bounded
size: no device, no pipe, nothing that has no end.
"""

import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EACCES, EDQUOT, EISDIR, EMFILE, ENOSPC, ENOTDIR, EPERM, EROFS
from fnmatch import fnmatch
from io import BufferedReader
from pathlib import Path

from ads_gym import limits
from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue, NotFound, StorageError, shown

if sys.platform != "win32":
    import fcntl

LOCK_NAME = ".lock"
DRAFT_PATTERN = ".ads-gym-*.tmp"  # files that are being written; one that a kill left may be deleted

_ATTEMPTS = 100
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # no link, no pipe

_REASONS = {
    EACCES: "permission denied",
    EPERM: "permission denied",
    EROFS: "the file system is read-only",
    ENOSPC: "no space left on the disk",
    EDQUOT: "no space left in the quota",
    ENOTDIR: "a part of the path is a file and no folder",
    EISDIR: "it is a folder",
    EMFILE: "this process has too many open files (see `ulimit -n`)",
}


def resolve(path: str | Path) -> Path:
    """The full path: `~` is the home folder, a relative path begins in the current folder.

    Raises:
        InvalidValue: no path: another type, empty, too long, or with characters that no path has.
        StorageError: the home folder or the current folder is unknown.
    """
    if not isinstance(path, str | Path):
        raise InvalidValue(f"a path is a string or a Path, got {shown(path)}.")
    text = str(path)
    try:
        possible = bool(text) and b"\0" not in os.fsencode(text) and len(text) <= limits.MAX_TEXT
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise InvalidValue(
            f"a path is a text of 1 to {limits.MAX_TEXT:,} characters, none of which is a null character, got "
            f"{shown(text)}."
        )
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # no HOME, and a user id without a name
        raise StorageError(f"the home folder in {str(path)!r} is unknown: set HOME, or give a full path.") from error
    except OSError as error:
        raise StorageError(
            f"{str(path)!r} is relative, and the current folder was deleted: give a full path."
        ) from error


@contextmanager
def file_errors(path: str | Path, action: str = "read") -> Iterator[None]:
    """Turn an `OSError` of the block into one sentence: "PATH cannot be ACTION: REASON.".

    Args:
        path: of what the block works on; a string describes several files, and the one at fault is named after it.
        action: a past participle: "read", "written".

    Raises:
        NotFound: no such file or folder.
        StorageError: no permission, no space, or any other error of the system.
    """
    try:
        yield
    except AdsGymError:
        raise
    except OSError as error:
        kind = NotFound if isinstance(error, FileNotFoundError) else StorageError
        which = f" ({error.filename})" if isinstance(path, str) and error.filename else ""
        raise kind(f"{path} cannot be {action}: {reason(error)}{which}.") from error


def exists(path: Path) -> bool:
    """Whether there is a file or a folder.

    Raises:
        StorageError: it lies below a folder that may not be entered.
    """
    with file_errors(path):
        return path.exists()


def is_file(path: Path) -> bool:
    """Whether there is a file; errors as `exists`."""
    with file_errors(path):
        return path.is_file()


def is_folder(path: Path) -> bool:
    """Whether there is a folder; errors as `exists`."""
    with file_errors(path):
        return path.is_dir()


@contextmanager
def opened(path: Path, what: str, limit: int) -> Iterator[BufferedReader]:
    """A regular file, opened for reading; a link to one is followed.

    Args:
        path: of the file.
        what: is in it, for messages: "task", "architecture".
        limit: bytes, that such a file has at most.

    Raises:
        NotFound, StorageError: no such file, or one that may not be read; both name it.
        DamagedFile: no regular file (a device, a pipe), or a larger one.
    """
    with file_errors(path):
        try:
            file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - closed below
        except FileNotFoundError as error:
            raise NotFound(f"there is no {what} {path}.") from error
    with file:
        with file_errors(path):
            found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise DamagedFile(f"{path} is no {what} that can be used: it is no regular file.")
        if found.st_size > limit:
            raise DamagedFile(
                f"{path} is no {what} that can be used: it has {found.st_size:,} bytes, and such a file has at most "
                f"{limit:,}."
            )
        yield file


def _open_at_once(path: str, flags: int) -> int:
    """A descriptor; of a pipe, without waiting for somebody who writes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_bytes(path: Path, what: str, limit: int) -> bytes:
    """The content of a regular file; arguments and errors as `opened`."""
    with opened(path, what, limit) as file, file_errors(path):
        return file.read(os.fstat(file.fileno()).st_size)  # of a number alone, so much would be allocated


def digest(path: Path, what: str, limit: int) -> str:
    """SHA-256 of a regular file in hex, which need not fit into memory; arguments and errors as `opened`."""
    with opened(path, what, limit) as file, file_errors(path):
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_draft(name: str) -> bool:
    """Whether a file of this name is one that was being written, by a process that may have been killed."""
    return fnmatch(name, DRAFT_PATTERN)


@contextmanager
def naming(source: Path | str, what: str) -> Iterator[None]:
    """Turn a `ValueError` of the block (ours are among them) into "SOURCE is no WHAT that can be used: REASON"."""
    try:
        yield
    except ValueError as error:
        raise DamagedFile(f"{source} is no {what} that can be used: {error}") from error


def make_folder(path: Path) -> None:
    """Make a folder inside one that the user named. It may be there already, and may be no link to somewhere else.

    Raises:
        StorageError: a link; or no permission.
    """
    with file_errors(path, "written"):
        if path.is_symlink():
            raise StorageError(f"{path} is a link, and nothing is written through a link in there: remove it.")
        path.mkdir(parents=True, exist_ok=True)


def check_no_link(*paths: Path) -> None:
    """Check that none of these files is a link or anything else than a regular file, before one of them is written.

    Raises:
        StorageError: one is.
    """
    for path in paths:
        with file_errors(path):
            if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
                raise StorageError(f"{path} is no regular file (a link?), and is not written to: remove it.")


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file, whole or not at all; its folder is made, its mode is the umask's.

    Args:
        path: of the file; what was there is replaced.
        content: text is written as UTF-8.

    Raises:
        StorageError: no space or no permission; what was there before is still there.
    """
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together: all or none, and never an old one beside a new one.

    The last is the one by which the others are found. A kill in the moment between the first and the last leaves no
    file of that name.

    Args:
        contents: by path.

    Raises:
        StorageError: as `write_file`.
    """
    *_, last = contents
    drafts: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with file_errors(path, "written"):
                drafts[path] = _write_draft(path.parent, content.encode() if isinstance(content, str) else content)
        with file_errors(last, "written"):
            if len(drafts) > 1:
                last.unlink(missing_ok=True)
            for path, draft in drafts.items():
                draft.replace(path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    for folder in {path.parent for path in contents}:
        _sync_folder(folder)


def _write_draft(folder: Path, content: bytes) -> Path:
    """A new file in `folder`, under a name that nobody can foresee, on the disk for good."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / DRAFT_PATTERN.replace("*", secrets.token_hex(8))
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _sync_folder(folder: Path) -> None:
    """Make a new name last through a loss of power, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder for the time of the block.

    The lock ends with the process, however that ends. A folder that is made for it, and still empty at the end, is
    removed again. Without effect on Windows, and on file systems that have no locks.

    Args:
        folder: made if it is not there.
        doing: what is going on, for the message: "training".

    Raises:
        StorageError: another process is in it already; or a folder that may not be written.
    """
    with file_errors(folder, "written"):
        made = not folder.is_dir()
        lock = _lock(folder, doing)
    try:
        with suppress(OSError):
            for draft in folder.glob(DRAFT_PATTERN):  # of a process that was killed: one at work holds the lock
                draft.unlink(missing_ok=True)
        yield
    finally:
        with suppress(OSError):
            if lock is None or os.path.samestat(os.fstat(lock), (folder / LOCK_NAME).stat()):
                (folder / LOCK_NAME).unlink()  # and not another process's, where the folder was renamed meanwhile
        if lock is not None:
            os.close(lock)
        if made:
            with suppress(OSError):
                folder.rmdir()


def _lock(folder: Path, doing: str) -> int | None:
    """The descriptor that holds the lock; None where there are none."""
    if sys.platform == "win32":
        folder.mkdir(parents=True, exist_ok=True)
        return None
    descriptor = _open_lock(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StorageError(
            f"another process is {doing} in {folder}: wait until it is done, or give another folder."
        ) from error
    except OSError:  # a file system without locks
        return descriptor
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), (folder / LOCK_NAME).stat()):
            return descriptor
    os.close(descriptor)  # whoever held the lock removed the file after we had opened it
    return _lock(folder, doing)


def _open_lock(folder: Path) -> int:
    """The lock file's descriptor. Who lets go of the lock may remove file and folder between two of our calls."""
    for attempt in range(_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / LOCK_NAME, _LOCK_FLAGS, 0o666)
        except (FileNotFoundError, FileExistsError):
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and not found.st_size:
            return descriptor
        os.close(descriptor)
        raise StorageError(f"{folder / LOCK_NAME} is no lock of this program's: move it away, or give another folder.")
    raise AssertionError


def reason(error: OSError) -> str:
    """What is wrong, in lower case, without a full stop."""
    told = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return told[:1].lower() + told[1:]
