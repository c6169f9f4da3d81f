"""A run's folder: what lies in it, to which settings it belongs, under which circumstances it was made."""

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ads_gym.errors import DamagedFile, InvalidValue, StorageError
from ads_gym.imports import object_name
from ads_gym.runs.recorder import RunWarning

FORMAT = "ads-gym run"
FORMAT_VERSION = 1
PACKAGES = ("ads-gym", "gymnasium", "numpy", "torch")  # whose versions may move a result


@dataclass(frozen=True)
class Settings:
    """All that decides how a run goes but its budget.

    Args:
        task: a name or a folder.
        agent: a name or "module:name".
        agent_options: what the agent is built with.
        seed: of the agent.
        game: keywords of the environment.
    """

    task: str
    agent: str
    agent_options: Mapping[str, Any]
    seed: int
    game: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Names and values as JSON holds them; a function stands there by its name.

        Raises:
            InvalidValue: a value that JSON cannot hold.
        """
        own = {"task": self.task, "agent": self.agent, "agent_options": dict(self.agent_options), "seed": self.seed}
        try:
            values = json.loads(json.dumps(own | dict(self.game), default=_plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"the settings of a run must be numbers, strings and such: {error}.") from error
        return values  # type: ignore[no-any-return]

    def folder(self, task: str) -> Path:
        """runs/<task>-<agent>-s<seed>-<8 hex of the settings>, where nothing else was asked for."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:8]
        return Path("runs") / re.sub(r"[^\w.-]+", "-", f"{task}-{self.agent}-s{self.seed}-{digest}")


def _plain(value: object) -> str:
    if callable(value):
        return object_name(value)
    raise TypeError(f"got {value!r:.80}")


@dataclass(frozen=True)
class Manifest:
    """What a folder says of its run."""

    settings: Mapping[str, Any]
    budget: int  # evaluations, as last asked for
    fingerprint: str  # of the evaluator
    circumstances: Mapping[str, Any]  # versions, machine, threads, under which it began
    data_root: str | None = None  # where data sets were looked for last; no setting, for it moves no result
    differs_at: int | None = None  # the first evaluation that a replay did not repeat; None: it repeated all
    result: Mapping[str, Any] | None = None  # as `SearchResult.to_dict`; None: the run is not over


class RunFolder:
    """The paths in a run's folder, and its manifest.

    Args:
        path: of the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = path / "manifest.json"
        self.store = path / "store.sqlite"
        self.history = path / "history.csv"
        self.best = path / "best.json"  # the best architecture; its network lies beside it, in best.safetensors
        self.tensorboard = path / "tensorboard"
        self.pictures = path / "pictures"
        self._is_new = False  # whether there was no folder when it was last read

    def read(self) -> Manifest | None:
        """The manifest, or None where no run has begun.

        Raises:
            InvalidValue: a folder with other things in it.
            DamagedFile: a manifest that is none, or a newer one.
            StorageError: one that may not be read.
        """
        try:
            text = self.manifest.read_text(encoding="utf-8")
            return _parse(text)
        except FileNotFoundError:
            self._check_empty()
            return None
        except OSError as error:
            raise StorageError(f"the run folder {self.path} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise DamagedFile(f"{self.manifest} is damaged, or no manifest of a run: {error}") from error

    def write(self, manifest: Manifest) -> None:
        """Writes the manifest, whole or not at all.

        Raises:
            StorageError: no space, no permission.
        """
        head: dict[str, Any] = {"format": FORMAT, "version": FORMAT_VERSION}
        write_whole(self.manifest, json.dumps(head | asdict(manifest), indent=1) + "\n")

    def remove(self) -> None:
        """Takes away what was written here, and the folder if this object made it and nothing else lies in it."""
        for path in (*self.path.glob(f"{self.store.name}*"), self.history, self.best, self.manifest):
            path.unlink(missing_ok=True)
        for folder in (self.tensorboard, self.pictures):
            shutil.rmtree(folder, ignore_errors=True)
        if self._is_new and not any(self.path.iterdir()):
            self.path.rmdir()

    def _check_empty(self) -> None:
        self._is_new = not self.path.is_dir()
        others = [] if self._is_new else [path.name for path in self.path.iterdir()]
        others = [name for name in others if name != f"{self.manifest.name}{_PART}"]  # left by a kill at the very start
        if others:
            raise InvalidValue(f"the folder {self.path} holds {others[0]!r} and no run: give a new or an empty folder.")


_PART = ".part"


def write_whole(path: Path, text: str) -> None:
    """Writes a file and makes its folder; a kill leaves the old content or the new, and nothing between.

    Raises:
        StorageError: no space, no permission; the old content is still there.
    """
    part = path.with_name(path.name + _PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if part.is_file():
            part.unlink()
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error


def _parse(text: str) -> Manifest:
    values = json.loads(text)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise DamagedFile(f'it lacks "format": "{FORMAT}".')
    if (got := values.pop("version", None)) != FORMAT_VERSION:
        raise DamagedFile(f"it has version {got!r}, and this ads-gym reads {FORMAT_VERSION}: upgrade ads-gym.")
    try:
        manifest = Manifest(**values)
    except TypeError as error:
        raise DamagedFile(f"it has the entries {sorted(values)}.") from error
    maps = (manifest.settings, manifest.circumstances, manifest.result or {})
    if not all(isinstance(value, dict) for value in maps) or not isinstance(manifest.budget, int):
        raise DamagedFile("one of its entries is of another type.")
    return manifest


def check_settings(folder: Path, manifest: Manifest, settings: Settings) -> None:
    """Finds that a folder is another run's.

    Raises:
        InvalidValue: it is; names the settings that differ.
    """
    theirs, ours = manifest.settings, settings.to_dict()
    differ = [name for name in sorted(theirs.keys() | ours) if theirs.get(name) != ours.get(name)]
    if differ:
        told = [f"{name} {theirs.get(name)!r} and not {ours.get(name)!r}" for name in differ]
        raise InvalidValue(
            f"the folder {folder} belongs to a run with {', '.join(told)}: give the same, or another --run folder."
        )


def check_circumstances(folder: Path, manifest: Manifest, fingerprint: str, now: Mapping[str, Any]) -> None:
    """Warns if a run goes on under other circumstances than it began.

    Raises:
        InvalidValue: circumstances are the same, and what is evaluated is not: other weights or data.
    """
    began = manifest.circumstances
    both = [name for name in now if None not in (began.get(name), now[name])]
    changed = [f"{name} {now[name]} and not {began[name]}" for name in both if began[name] != now[name]]
    if changed:
        warnings.warn(
            f"the run in {folder} goes on with {', '.join(changed)}: what is recorded stays and counts, and the result "
            "is correct, but a run of its own might find another.",
            RunWarning,
            stacklevel=3,
        )
    elif manifest.fingerprint != fingerprint:
        raise InvalidValue(
            f"the run in {folder} was made with other weights, data or evaluator than there are now under the same "
            "name: give another --run folder."
        )


def circumstances() -> dict[str, Any]:
    """Versions, machine and thread count: where all are the same, so is the result."""
    found: dict[str, Any] = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    torch = sys.modules.get("torch")  # where nobody has loaded it, its threads move nothing
    return found | {"machine": _processor(), "threads": torch.get_num_threads() if torch else None}


def _processor() -> str:
    """What kind of processor this is: other ones sum in other orders."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return f"{platform.machine()} {found[1] if found else platform.processor()}".strip()
