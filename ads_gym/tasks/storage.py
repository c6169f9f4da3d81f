"""How a task lies on disk: task.json beside supernet.safetensors. Reading runs no code and imports no torch."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.spec import DataSpec
from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.files import exists, is_file, naming, read_json, to_json, write_files

FORMAT = "ads-gym task"
FORMAT_VERSION = 1
PACKAGED = Path(__file__).parents[1] / "weights"  # tasks whose supernets ship with ads-gym: NAME.json, NAME.safetensors


class TaskFiles(NamedTuple):
    """The two files of a task."""

    description: Path
    weights: Path

    def complete(self) -> bool:
        """Whether both are there."""
        return is_file(self.description) and is_file(self.weights)


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


def read_description(path: Path) -> Description:
    """What `path` says. A user's own data that are not at their full path are looked for from the task's folder.

    Raises:
        NotFound, DamagedFile, StorageError: no such file, none of a task, or one that may not be read; each names it.
    """
    values = read_json(path, FORMAT, FORMAT_VERSION, "task")
    with naming(path, "task"):
        name, record = values.get("name"), values.get("record")
        if not isinstance(name, str) or not isinstance(record, dict):
            raise DamagedFile(f"'name' should be a string and 'record' an object, got {name!r:.40} and {record!r:.40}.")
        config, data = DenseNetConfig.from_dict(values.get("config")), DataSpec.from_dict(values.get("data"))
    return Description(name, config, _moved(data, path.parent, values.get("data_from_here")), record)


def write_task(folder: Path, description: Description, weights: bytes) -> None:
    """Writes both files, each of them whole or not at all; never one task's description beside another's weights.

    Raises:
        InvalidValue: a record that JSON cannot hold.
        StorageError: no space or no permission; a task that was there before is still there.
    """
    name, config, data, record = description
    values: dict[str, Any] = {"name": name, "config": config.to_dict(), "data": data.to_dict(), "record": dict(record)}
    if data.path is not None:
        values["data_from_here"] = _path_from(folder, data.path)
    try:
        text = to_json(FORMAT, FORMAT_VERSION, values)
    except InvalidValue as error:
        raise InvalidValue(f"the record of task {name!r} cannot be stored: {error}") from error
    files = task_files(folder, name)
    write_files({files.weights: weights, files.description: text + "\n"})


def _path_from(folder: Path, path: Path) -> str | None:
    """The way from `folder` to `path`, with / between; None where there is none (another drive of Windows)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return None


def _moved(data: DataSpec, folder: Path, way: Any) -> DataSpec:
    """`data`, found again where task and data were moved together."""
    if data.path is None or not isinstance(way, str) or exists(data.path):
        return data
    place = Path(os.path.normpath(folder / way))
    return replace(data, source=str(place)) if exists(place) else data
