"""Tasks: data, a network config and a supernet's weights, under a name or in a folder.

Loading one reads a small JSON file and no more: images and weights come when they are asked for. torch is imported
where it is needed, and planted tasks never need it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.paths import tasks_home
from ads_gym.data.spec import SOURCES, DataSpec, Split
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, StorageError, unknown_name
from ads_gym.evaluators.base import Evaluator
from ads_gym.evaluators.named import find_evaluator
from ads_gym.tasks.storage import PACKAGED, Description, TaskFiles, read_description, task_files, write_task
from ads_gym.topology import Scope

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ads_gym.data.images import ImageSet
    from ads_gym.nets.densenet import DenseNet
    from ads_gym.nets.sparse import SparseDenseNet

__all__ = ["PLANTED", "Task", "TaskEntry", "save_task", "task_names", "tasks_home"]

PLANTED = {"planted-20": (5, 5), "planted-45": (6, 6, 6), "planted-198": (12, 12, 12)}  # name -> layers in each block


@dataclass(frozen=True)
class Task:
    """What a search is about.

    Args:
        name: for people and folders.
        config: of the supernet.
        data: which images, and how they are divided; None for a planted task, which has none.
        folder: where its files are; None for a planted task.
        record: how the supernet was made and what it is worth, as JSON holds it.
        data_root: where named data sets lie; None = `$ADS_GYM_DATA`, or a folder of this program.
    """

    name: str
    config: DenseNetConfig
    data: DataSpec | None = None
    folder: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict, hash=False)
    data_root: Path | None = None

    @classmethod
    def load(cls, name: str | Path, data_root: Path | str | None = None) -> "Task":
        """The task with this name, or in this folder; a name goes first: write ./digits for a folder called so.

        Raises:
            UnknownName: no such task and no such folder.
            NotFound: a name whose supernet is not trained yet, or a folder without a task; says what to do.
            DamagedFile: a task file that is none.
        """
        root = None if data_root is None else Path(data_root).expanduser().absolute()
        if name in PLANTED:
            return cls(str(name), _planted_config(str(name)))
        if isinstance(name, str) and _is_plain(name):
            folder = _named_folder(name)
            if task_files(folder, name).description.is_file():
                return _from_folder(folder, name, root)
            if name in SOURCES:
                raise NotFound(
                    f"task {name!r} has no supernet yet in {tasks_home() / name}. Train one: "
                    f"ads-gym train-supernet --task {name}"
                )
            if not Path(name).exists():
                known = [entry.name for entry in task_names()]
                raise unknown_name("task (and there is no folder of that name)", name, known)
        path = Path(name).expanduser().absolute()
        return _from_folder(path, path.name, root)

    def images(self, split: Split) -> "ImageSet":
        """The images of a split, uint8 [n, c, h, w], on the CPU; read once in a process, so leave them as they are.

        Raises:
            NotFound, DamagedFile, InvalidValue: as `data.splits.load_splits`; or data that the network does not fit.
            ForkedProcess: this process was made by fork and would hang.
        """
        from ads_gym.data.splits import kept_splits
        from ads_gym.torch_state import check_process

        check_process()
        spec = self._data()
        found = kept_splits(spec, self.data_root)[Split(split)]
        largest = int(found.labels.max())
        if found.image_shape != self.config.image_shape or largest >= self.config.classes:
            raise InvalidValue(
                f"task {self.name!r} was trained on images {self.config.image_shape} of {self.config.classes} classes, "
                f"and {spec.source} now has images {found.image_shape} and labels up to {largest}."
            )
        return found

    def calibration(self) -> "ImageSet":
        """The images of TRAIN on which BatchNorm statistics are estimated."""
        from ads_gym.data.splits import calibration_images

        return calibration_images(self._data(), self.images(Split.TRAIN))

    def state_dict(self) -> "dict[str, Tensor]":
        """The supernet's weights and buffers by name.

        Raises:
            NotFound, DamagedFile: no such file, or not safetensors.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.files.weights
        try:
            return load_file(path)
        except FileNotFoundError as error:
            raise NotFound(f"the weights {path} of task {self.name!r} are missing.") from error
        except PermissionError as error:
            raise StorageError(f"{path} cannot be read: {error}") from error
        except (SafetensorError, OSError, ValueError) as error:
            raise DamagedFile(f"{path} is damaged, or no safetensors file: {error}") from error

    def supernet(self) -> "DenseNet":
        """The trained network with every connection, in eval mode, on the CPU; a new one at every call.

        Raises:
            NotFound, DamagedFile: no weights, or not those of `config`.
        """
        import torch

        from ads_gym.nets.densenet import DenseNet, uninitialised

        weights = self.state_dict()
        network = uninitialised(lambda device: DenseNet(self.config, device))
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise DamagedFile(f"{self.files.weights} does not fit task {self.name!r}: {error}") from error
        if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
            raise DamagedFile(f"{self.files.weights} has weights that are no numbers (NaN or infinite).")
        return network.eval()

    def inherit(self, architecture: Architecture, device: "torch.device | str" = "cpu") -> "SparseDenseNet":
        """The sparse network of an architecture with the supernet's weights and statistics of its own, in eval mode.

        Args:
            architecture: of this task's config.
            device: where the network is, and where its statistics are estimated.

        Raises:
            InvalidValue: an architecture of another network.
        """
        from ads_gym.data.images import network_input
        from ads_gym.nets.sparse import build_sparse, calibrate

        network = build_sparse(architecture, self.supernet().to(device))
        calibrate(network, network_input(self.calibration().to(device).images))
        return network

    def evaluator(self, scope: Scope | str = Scope.LAYERS, device: str = "auto", spec: str | None = None) -> Evaluator:
        """What scores masks of this task.

        Args:
            scope: which skip connections masks speak of.
            device: "auto", "cpu" or "cuda", for inherited accuracy.
            spec: None = inherited accuracy, or on a planted task "planted:linear:0". "planted:KIND:SEED" with KIND =
                linear | pairwise | given, on any task. "module:name": called as name(task, scope).

        Raises:
            InvalidValue, UnknownName, NotFound: a spec that names no evaluator, or one of another network.
            DeviceUnavailable: a device that this machine does not have.
        """
        return find_evaluator(self, Scope(scope), device, spec)

    @property
    def files(self) -> TaskFiles:
        """Where its description and weights are.

        Raises:
            InvalidValue: a planted task, which has none.
        """
        if self.folder is None:
            raise InvalidValue(f"task {self.name!r} is planted: it has no images and no weights.")
        return task_files(self.folder, self.name)

    def _data(self) -> DataSpec:
        if self.data is None:
            raise InvalidValue(f"task {self.name!r} is planted: it has no images and no weights.")
        return self.data


class TaskEntry(NamedTuple):
    """A line in the list of tasks."""

    name: str
    where: str
    ready: bool


def task_names() -> list[TaskEntry]:
    """Every task that has a name, where it is or would be, and whether its supernet is there."""
    trained = sorted(path.parent.name for path in tasks_home().glob("*/task.json"))
    own = [name for name in trained if name not in SOURCES and name not in PLANTED]
    entries = []
    for name in (*SOURCES, *own):
        folder = _named_folder(name)
        where = "built in" if folder == PACKAGED else str(folder)
        entries.append(TaskEntry(name, where, task_files(folder, name).complete()))
    return [*entries, *(TaskEntry(name, "built in", True) for name in PLANTED)]


def save_task(
    folder: Path | str,
    name: str,
    config: DenseNetConfig,
    data: DataSpec,
    state_dict: "Mapping[str, Tensor]",
    record: Mapping[str, Any],
) -> Task:
    """Writes task.json and supernet.safetensors, whole or not at all, and gives the task that they are.

    Args:
        folder: made if it is not there; a task that is in it is replaced.
        name: of the task.
        config, data, record: see `Task`; the path of a user's own data is stored in full.
        state_dict: the supernet's.

    Raises:
        InvalidValue: a record that JSON cannot hold.
        StorageError: no space or no permission; a task that was there before is still there.
    """
    from safetensors.torch import save

    if data.path is not None:
        data = replace(data, source=str(data.path.absolute()))
    folder = Path(folder).expanduser().absolute()
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state_dict.items()}
    write_task(folder, Description(name, config, data, record), save(tensors, {"format": "pt"}))
    return _from_folder(folder, name, None)


def _from_folder(folder: Path, name: str, data_root: Path | None) -> Task:
    files = task_files(folder, name)
    if not files.description.is_file():
        raise NotFound(
            f"there is no task in {folder}: expected {files.description.name} and {files.weights.name} in it. "
            "Make a task of your own data: ads-gym train-supernet --data PATH --out FOLDER"
        )
    description = read_description(files.description)
    if not files.weights.is_file():
        raise NotFound(f"{files.description} is there, and its weights {files.weights} are missing. Train it again.")
    return Task(description.name, description.config, description.data, folder, description.record, data_root)


def _planted_config(name: str) -> DenseNetConfig:
    """Small: only its costs are ever used."""
    return DenseNetConfig(PLANTED[name], growth=4, stem_channels=8, image_shape=(1, 8, 8))


def _is_plain(name: str) -> bool:
    """A name and no path."""
    return not any(mark in name for mark in ("/", os.sep, "~")) and name not in ("", ".", "..")


def _named_folder(name: str) -> Path:
    """Where a task of this name is or would be: what a user trained goes before what ships with ads-gym."""
    folder = tasks_home() / name
    return PACKAGED if name == "digits" and not task_files(folder, name).description.is_file() else folder
