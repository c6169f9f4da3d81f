"""How a task lies on disk: task.json beside supernet.safetensors. Reading runs no code and imports no torch."""

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.spec import DataSpec
from ads_gym.files import exists, is_file, write_file, write_files
from ads_gym.records import Digest, Format, Name, Text, record
from ads_gym.tasks.training_record import TrainingRecord

PACKAGED = Path(__file__).parents[1] / "weights"  # tasks whose supernets ship with ads-gym: NAME.json, NAME.safetensors


class TaskFiles(NamedTuple):
    """The files of a task."""

    description: Path
    weights: Path
    table: Path  # of all its architectures; most tasks have none

    def complete(self) -> bool:
        """Whether description and weights are there."""
        return is_file(self.description) and is_file(self.weights)


def task_files(folder: Path, name: str) -> TaskFiles:
    """Where a task's files are: only in our own package do several share a folder, under their names."""
    if folder == PACKAGED:
        return TaskFiles(*(folder / f"{name}{ending}" for ending in (".json", ".safetensors", ".table.safetensors")))
    return TaskFiles(folder / "task.json", folder / "supernet.safetensors", folder / "table.safetensors")


@record
class Description:
    """What task.json holds."""

    name: Name
    config: DenseNetConfig
    data: DataSpec
    record: TrainingRecord
    data_from_here: Text | None = None  # the way from the task's folder to a user's own data
    table: Digest | None = None  # SHA-256 of the file with all its architectures; None: there is none


TASK = Format("ads-gym task", 1, "task", Description)


def read_description(path: Path) -> Description:
    """What `path` says. A user's own data that are not at their full path are looked for from the task's folder.

    Raises:
        NotFound, DamagedFile, StorageError: no such file, none of a task, or one that may not be read; each names it.
    """
    found = TASK.read(path)
    return replace(found, data=_moved(found.data, path.parent, found.data_from_here))


def write_task(folder: Path, description: Description, weights: bytes) -> None:
    """Writes both files, each of them whole or not at all; never one task's description beside another's weights.

    Raises:
        StorageError: no space or no permission; a task that was there before is still there.
    """
    files = task_files(folder, description.name)
    write_files({files.weights: weights, files.description: _text(folder, description)})


def write_description(folder: Path, description: Description) -> None:
    """Writes task.json anew, whole or not at all.

    Raises:
        StorageError: no space or no permission; what was there before still is.
    """
    write_file(task_files(folder, description.name).description, _text(folder, description))


def _text(folder: Path, description: Description) -> str:
    """What task.json says in a folder."""
    data = description.data.path
    way = None if data is None else _path_from(folder, data)
    return TASK.text(replace(description, data_from_here=way)) + "\n"


def _path_from(folder: Path, path: Path) -> str | None:
    """The way from `folder` to `path`, with / between; None where there is none (another drive of Windows)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return None


def _moved(data: DataSpec, folder: Path, way: str | None) -> DataSpec:
    """`data`, found again where task and data were moved together."""
    if data.path is None or way is None or exists(data.path):
        return data
    place = Path(os.path.normpath(folder / way))
    return replace(data, source=str(place)) if exists(place) else data
