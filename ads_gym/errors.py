"""Every error that ads_gym raises on purpose. Each message says what was wrong, what was got, and what to do."""

import difflib
import reprlib
from collections.abc import Iterable

from gymnasium import error

MAX_SHOWN = 100  # characters of a text, or of an object's own repr


class _Shown(reprlib.Repr):
    """A bounded repr, which nothing makes fail: no depth, no size, no `__repr__` that raises."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 3, MAX_SHOWN, MAX_SHOWN, MAX_SHOWN

    def repr_int(self, x: int, level: int) -> str:
        """As any other; Python writes out no number of more than 4,300 digits."""
        return super().repr_int(x, level) if x.bit_length() < 10_000 else f"<a number of {x.bit_length():,} bits>"


_SHOWN = _Shown()


def shown(value: object) -> str:
    """What was got, for a message: its repr, shortened."""
    try:
        return _SHOWN.repr(value)
    except Exception:
        return f"<{type(value).__name__} object>"


class AdsGymError(Exception):
    """The common base: catch this to catch whatever ads_gym raises on purpose."""


class InvalidValue(AdsGymError, ValueError):
    """An argument, a mask, a setting or a data set that cannot be used."""


class UnknownName(AdsGymError, ValueError):
    """A name that stands for nothing; the message suggests the nearest one that does."""


class NotFound(AdsGymError, FileNotFoundError):
    """A file, a folder or a data set that is not where it was looked for."""


class DamagedFile(AdsGymError, ValueError):
    """A file that is damaged, foreign, or written by a newer version."""


class StorageError(AdsGymError, OSError):
    """No space, no permission, or a file that another program holds."""


class MissingPackage(AdsGymError, ImportError):
    """An optional package that is not installed, or does not fit; the message has the pip line."""


class DeviceUnavailable(AdsGymError, RuntimeError):
    """A device that this machine does not have."""


class ForkedProcess(AdsGymError, RuntimeError):
    """A process made by fork, in which torch would hang: start it by spawn."""


class BudgetExhausted(AdsGymError):
    """The run has spent its evaluations or its episodes. `search` catches it; an agent need not."""


class TimeLimit(AdsGymError, TimeoutError):
    """An agent's process that took longer than its time limit, and was ended."""


class AgentFailed(AdsGymError, RuntimeError):
    """An agent that failed in a process of its own; the message has its traceback, or how the process ended."""


class ResetNeeded(AdsGymError, error.ResetNeeded):
    """A step before the first reset, or after the end of an episode."""


def unknown_name(what: str, got: object, known: Iterable[str]) -> UnknownName:
    """The error for a wrong name: says what was got, the nearest right name, and all of them."""
    names = sorted(map(str, known))  # members of a StrEnum would show their repr
    text = str(got)[:MAX_SHOWN] if isinstance(got, str) else shown(got)
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownName(f"unknown {what} {shown(got)}.{hint} Known: {', '.join(names)}.")
