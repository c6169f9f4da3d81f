"""How a task lies on disk: task.json beside supernet.safetensors. Reading runs no code and imports no torch."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.spec import DataSpec
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, StorageError

FORMAT = "ads-gym task"
FORMAT_VERSION = 1
PACKAGED = Path(__file__).parents[1] / "weights"  # tasks whose supernets ship with ads-gym: NAME.json, NAME.safetensors


class TaskFiles(NamedTuple):
    """The two files of a task."""

    description: Path
    weights: Path

    def complete(self) -> bool:
        """Whether both are there."""
        return self.description.is_file() and self.weights.is_file()


def task_files(folder: Path, name: str) -> TaskFiles:
    """Where a task's files are: only in our own package do several share a folder, under their names."""
    if folder == PACKAGED:
        return TaskFiles(folder / f"{name}.json", folder / f"{name}.safetensors")
    return TaskFiles(folder / "task.json", folder / "supernet.safetensors")


class Description(NamedTuple):
    """What task.json holds."""

    name: str
    config: DenseNetConfig
    data: DataSpec
    record: Mapping[str, Any]  # recipe, spread, versions: as the training wrote them

    def to_json(self) -> str:
        """With format and version, indented."""
        head: dict[str, Any] = {"format": FORMAT, "version": FORMAT_VERSION, "name": self.name}
        body = {"config": self.config.to_dict(), "data": self.data.to_dict(), "record": dict(self.record)}
        return json.dumps(head | body, indent=1) + "\n"


def read_description(path: Path) -> Description:
    """What `path` says.

    Raises:
        NotFound, DamagedFile, StorageError: no such file, none of a task, or one that may not be read; each names it.
    """
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no task file {path}.") from error
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or a DamagedFile from within
        raise DamagedFile(f"{path} is no task that can be used: {error}") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def _parse(text: str) -> Description:
    values = json.loads(text)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DamagedFile(f'it lacks "format": "{FORMAT}".')
    if values.get("version") != FORMAT_VERSION:
        raise DamagedFile(
            f"it has format version {values.get('version')!r}, and this ads-gym reads {FORMAT_VERSION}: upgrade it."
        )
    name, record = values.get("name"), values.get("record")
    if not isinstance(name, str) or not isinstance(record, dict):
        raise DamagedFile(f"'name' should be a string and 'record' an object, got {name!r:.40} and {record!r:.40}.")
    return Description(
        name, DenseNetConfig.from_dict(values.get("config")), DataSpec.from_dict(values.get("data")), record
    )


def write_task(folder: Path, description: Description, weights: bytes) -> None:
    """Writes both files, each of them whole or not at all; never one task's description beside another's weights.

    Raises:
        InvalidValue: a record that JSON cannot hold.
        StorageError: no space or no permission; a task that was there before is still there.
    """
    try:
        text = description.to_json()
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"the record of task {description.name!r} cannot be stored as JSON: {error}") from error
    files = task_files(folder, description.name)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for content in (weights, text.encode()):
            written.append(_write_new(folder, content))
        files.description.unlink(missing_ok=True)  # killed from here on, the task is missing, not mixed
        written[0].replace(files.weights)
        written[1].replace(files.description)
    except OSError as error:
        raise StorageError(f"task {description.name!r} cannot be written to {folder}: {error}") from error
    finally:
        for path in written:
            path.unlink(missing_ok=True)


def _write_new(folder: Path, content: bytes) -> Path:
    """A new file in `folder` with that content, on the disk for good; removed again if it does not fit."""
    handle, name = tempfile.mkstemp(prefix=".task-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp's files are the owner's alone
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
