"""The run folder: paths of its files, its manifest, and the checks before a run goes on."""

import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ads_gym import files
from ads_gym.errors import InvalidValue, NotFound
from ads_gym.records import Format, JsonObject, Name, Number, record
from ads_gym.runs.identity import Identity
from ads_gym.runs.recorder import RunWarning
from ads_gym.runs.result import Evaluations, ResultRecord
from ads_gym.tasks import Task

# whose versions may change a result; torch's is the evaluator's
PACKAGES = ("ads-gym", "gymnasium", "numpy", "scipy", "stable-baselines3")

REPORT = "report.html"  # a page about the run


@record
class Manifest:
    """What is known of a run besides its record."""

    identity: JsonObject  # `Identity.parts`
    budget: Evaluations  # as last asked for
    circumstances: JsonObject  # versions, machine, threads, under which it began
    began: Name  # date and time, ISO 8601
    ended: Name | None = None  # of the last time that its budget was spent
    agent_seconds: Number | None = None  # of CPU, that the agent took besides evaluations, when it played to its end
    task: Name | None = None  # name or folder
    task_from_run: Name | None = None  # path of the task's folder relative to the run's, so that both can be moved
    data_root: Name | None = None  # where data sets were looked for last
    differs_at: Evaluations | None = None  # the first evaluation that a replay did not repeat; None: it repeated all
    result: ResultRecord | None = None  # None: the run is not over


MANIFEST = Format("ads-gym run", 3, "manifest of a run", Manifest)


class RunFolder:
    """The paths in a run's folder, and its manifest.

    Args:
        path: of the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = path / "manifest.json"
        self.record = path / "record.sqlite"
        self.history = path / "history.csv"
        self.best = path / "best.json"  # the best architecture; its network lies beside it, in best.safetensors
        self.policy = path / "policy"  # the trained policy: policy.json and policy.safetensors
        self.tensorboard = path / "tensorboard"
        self.pictures = path / "pictures"

    def read(self) -> Manifest | None:
        """Return the manifest, or None where no run has begun.

        Raises:
            DamagedFile: a manifest that cannot be used, or one of another version.
            StorageError: one that may not be read.
        """
        try:
            return MANIFEST.read(self.manifest)
        except NotFound:  # asked in one step: another process may begin a run, or remove one that failed
            return None

    def has_results(self, has_network: bool) -> bool:
        """Whether all that a run writes at its end is here."""
        weights = [self.best.with_suffix(".safetensors")] if has_network else []
        return all(files.exists(path) for path in (self.best, self.history, self.pictures, *weights))

    def write(self, manifest: Manifest) -> None:
        """Write the manifest, whole or not at all.

        Raises:
            StorageError: no space, no permission.
        """
        MANIFEST.write(self.manifest, manifest)

    def set_aside(self) -> Path:
        """Rename the folder to NAME-before-1, or the next number that is free; return its new path."""
        number = 1
        while files.exists(aside := self.path.with_name(f"{self.path.name}-before-{number}")):
            number += 1
        with files.file_errors(self.path, "renamed"):
            self.path.rename(aside)
            (aside / files.LOCK_NAME).unlink(missing_ok=True)
        return aside

    def bring_back(self, aside: Path) -> None:
        """Give a folder that was set aside its name again, if no run has begun in its place."""
        with suppress(OSError):
            if not self.manifest.exists():
                self.path.rmdir()
        with suppress(OSError):
            if not self.path.exists():
                aside.rename(self.path)

    def remove(self) -> None:
        """Remove what a run has written here, and the folder where nothing else lies in it."""
        with files.file_errors(self.path, "removed"):
            for path in (*self.path.glob(f"{self.record.name}*"), *self.path.glob("policy.*")):
                path.unlink(missing_ok=True)
            for path in (self.history, self.best, self.manifest):
                path.unlink(missing_ok=True)
            for folder in (self.tensorboard, self.pictures):
                shutil.rmtree(folder, ignore_errors=True)

    def check_empty(self) -> None:
        """Check that a run may begin here; while the folder is locked, for another process may be beginning one.

        Raises:
            InvalidValue: a folder with other things in it.
        """
        with files.file_errors(self.path, "read"):
            names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        others = [name for name in names if name != files.LOCK_NAME and not files.is_draft(name)]
        if others:
            raise InvalidValue(f"the folder {self.path} holds {others[0]!r} and no run: give a new or an empty folder.")


def default_folder(task: str, agent: str, seed: int, identity: Identity) -> RunFolder:
    """Return runs/<task>-<agent>-s<seed>-<8 hex of the identity>."""
    name = re.sub(r"[^\w.-]+", "-", f"{task}-{agent}-s{seed}-{identity.digest}")
    return RunFolder(files.resolve(Path("runs") / name))


def place_of(task: Task | None, folder: Path) -> dict[str, str | None]:
    """Return the manifest's entries about where a task is."""
    reference = None if task is None else task.reference
    is_folder = reference is not None and Path(reference).is_absolute()
    return {
        "task": reference,
        "task_from_run": os.path.relpath(str(reference), files.resolve(folder)) if is_folder else None,
    }


def load_task_of(manifest: Manifest, folder: Path, data_root: Path | str | None = None) -> Task:
    """Return the task of a run: where it is as seen from the run's folder (both may have been moved), or where it was.

    Raises:
        AdsGymError: no task, or none that can be loaded.
    """
    if manifest.task is None:
        raise InvalidValue(f"the run in {folder} used an evaluator of its own, and no task with a network to train.")
    place = manifest.task
    if manifest.task_from_run is not None:
        beside = Path(os.path.normpath(files.resolve(folder) / manifest.task_from_run))
        place = str(beside) if files.exists(beside) else place
    return Task.load(place, data_root or manifest.data_root)


def check_identity(folder: Path, manifest: Manifest, identity: Identity) -> None:
    """Check that a folder holds the run that was asked for.

    Raises:
        InvalidValue: it holds another one; the message says what differs.
    """
    if differences := identity.differences(manifest.identity):
        raise InvalidValue(
            f"the folder {folder} belongs to a run with {', '.join(differences)}: give the same, or another --run "
            "folder; or --restart, which keeps the old one under another name."
        )


def check_circumstances(folder: Path, manifest: Manifest, now: Mapping[str, Any]) -> None:
    """Warn if a run goes on under other circumstances than it began."""
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


def circumstances() -> dict[str, Any]:
    """Return versions, machine and thread count: where all are the same, so is the result."""
    found: dict[str, Any] = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    torch = sys.modules.get("torch")  # where nobody has loaded it, its threads change nothing
    return found | {"machine": _processor(), "threads": torch.get_num_threads() if torch else None}


def now() -> str:
    """Return date and time, ISO 8601, to the second, with the time zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _processor() -> str:
    """The kind of processor: other ones add in other orders."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return f"{platform.machine()} {found[1] if found else platform.processor()}".strip()
