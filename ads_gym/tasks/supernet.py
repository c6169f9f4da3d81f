"""Tasks with images and a trained supernet, and finding a task by its name or folder.

Loading a task reads a small JSON file and no more: images and weights come when they are asked for. torch is imported
where it is needed, and planted tasks never need it.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.paths import tasks_home
from ads_gym.data.spec import DataSpec, Split
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, unknown_name
from ads_gym.evaluators.base import BaseEvaluator, Weights
from ads_gym.evaluators.table import LIMIT as TABLE_LIMIT
from ads_gym.evaluators.table import WHAT as TABLE
from ads_gym.evaluators.table import Table, TableEvaluator, read_table
from ads_gym.files import digest, exists, file_errors, is_file, read_bytes, resolve, write_file
from ads_gym.limits import MAX_TENSORS_BYTES
from ads_gym.nets.features import Feature, Known
from ads_gym.records import Name, checked
from ads_gym.tasks.base import Task
from ads_gym.tasks.planted import PLANTED
from ads_gym.tasks.presets import PRESETS, is_preset
from ads_gym.tasks.storage import (
    PACKAGED,
    Description,
    TaskFiles,
    read_description,
    task_files,
    write_description,
    write_task,
)
from ads_gym.tasks.training_record import TrainingRecord
from ads_gym.topology import Scope, Topology

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from ads_gym.data.images import ImageSet
    from ads_gym.nets.densenet import DenseNet
    from ads_gym.nets.sparse import SparseDenseNet


MAX_NAME = 255  # what file systems take

_known: dict[tuple[Any, ...], Known] = {}  # features, by what they are of


@dataclass(frozen=True)
class SupernetTask(Task):
    """Images and a trained supernet, in a folder.

    Args:
        name: for people and folders.
        config: of the supernet.
        data: which images, and how they are divided.
        folder: where its files are.
        record: how the supernet was trained, and how its inherited accuracies spread.
        data_root: where named data sets lie; None = `$ADS_GYM_DATA`, or a folder of this program.
        table: SHA-256 of the file in which all its architectures are; None: there is none.
    """

    name: str
    config: DenseNetConfig
    data: DataSpec
    folder: Path
    record: TrainingRecord = TrainingRecord()  # noqa: RUF009 - it is frozen
    data_root: Path | None = None
    table: str | None = None  # SHA-256 of the file with all its architectures
    has_network: ClassVar[bool] = True

    @classmethod
    def find(cls, name: str | Path, data_root: Path | str | None = None) -> "SupernetTask":
        """See `Task.load`: any name or folder that is of no other kind is expected here."""
        root = None if data_root is None else resolve(data_root)
        if isinstance(name, str) and _is_plain(name):
            folder = _named_folder(name)
            if is_file(task_files(folder, name).description):
                return _from_folder(folder, name, root)
            if is_preset(name):
                raise NotFound(
                    f"task {name!r} has no supernet yet in {tasks_home() / name}. Train one: "
                    f"ads-gym train-supernet --task {name}"
                )
            if not exists(Path(name)):
                known = [entry.name for entry in task_names()]
                raise unknown_name("task (and there is no folder of that name)", name, known)
        path = resolve(name)
        return _from_folder(path, path.name, root)

    @property
    def reference(self) -> str:
        """Its name where `Task.load` finds it by that, else its folder."""
        return self.name if self.folder in (PACKAGED, tasks_home() / self.name) else str(self.folder)

    def with_data_root(self, data_root: Path | str) -> "SupernetTask":
        """Return the same task with its data sets looked for elsewhere."""
        return replace(self, data_root=resolve(data_root))

    def images(self, split: Split) -> "ImageSet":
        """The images of a split, uint8 [n, c, h, w], on the CPU; read once in a process, so leave them as they are.

        Raises:
            NotFound, DamagedFile, InvalidValue: as `data.splits.load_splits`; or data that the network does not fit.
            ForkedProcess: this process was made by fork and would hang.
        """
        from ads_gym.data.splits import kept_splits
        from ads_gym.torch_state import check_process

        check_process()
        spec = self.data
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

        return calibration_images(self.data, self.images(Split.TRAIN))

    def state_dict(self) -> "dict[str, Tensor]":
        """The supernet's weights and buffers by name.

        Raises:
            NotFound, DamagedFile, StorageError: no such file, not safetensors, or one that may not be read.
        """
        from ads_gym.nets.cost import dense_cost
        from ads_gym.nets.tensorfile import most_bytes, read_safetensors

        most = most_bytes(dense_cost(self.config)[1])
        return read_safetensors(self.files.weights, "weights file", most)

    def supernet(self) -> "DenseNet":
        """The trained network with every connection, in eval mode, on the CPU; a new one at every call.

        Raises:
            NotFound, DamagedFile: no weights, or not those of `config`.
        """
        from ads_gym.nets.densenet import DenseNet, uninitialised
        from ads_gym.nets.tensorfile import load_weights

        network = uninitialised(lambda device: DenseNet(self.config, device))
        load_weights(network, self.state_dict(), self.files.weights)
        return network.eval()

    def inherit(self, architecture: Architecture, device: "torch.device | str" = "cpu") -> "SparseDenseNet":
        """The sparse network of an architecture with the supernet's weights and statistics of its own, in eval mode.

        Args:
            architecture: of this task's config.
            device: where the network is, and where its statistics are estimated.

        Raises:
            InvalidValue: an architecture of another network.
        """
        from ads_gym.nets.sparse import build_sparse, calibrate

        supernet, images = self._on(device)
        network = build_sparse(architecture, supernet)
        calibrate(network, images)
        return network

    def repair(self, architecture: Architecture, device: "torch.device | str" = "cpu") -> "SparseDenseNet":
        """The same with its weights solved again in closed form on the calibration images, without labels.

        Args, Raises: as `inherit`.
        """
        from ads_gym.nets.repair import repair
        from ads_gym.nets.sparse import build_sparse

        supernet, images = self._on(device)
        network = build_sparse(architecture, supernet)
        repair(network, supernet, images)
        return network

    def _on(self, device: "torch.device | str") -> "tuple[DenseNet, Tensor]":
        """The supernet and the calibration images as it reads them, on a device."""
        from ads_gym.data.images import network_input
        from ads_gym.devices import resolve_device

        where = resolve_device(device)
        return self.supernet().to(where), network_input(self.calibration().to(where).images)

    def evaluator(
        self,
        scope: Scope | str = Scope.LAYERS,
        device: str = "auto",
        weights: Weights | str = Weights.INHERITED,
    ) -> BaseEvaluator:
        """Return the evaluator of accuracy on VALID, with inherited or repaired weights; its table's if it has them.

        Raises:
            DeviceUnavailable: a device that this machine does not have.
            NotFound, DamagedFile: no table where it should have one.
        """
        if self.table is not None and Scope(scope) is Scope.LAYERS and Weights(weights) in self.tabulated:
            return TableEvaluator(self.config, self._read_table(), Weights(weights), self.table)
        from ads_gym.evaluators.inherited import InheritedEvaluator
        from ads_gym.evaluators.repaired import RepairedEvaluator

        kind = RepairedEvaluator if Weights(weights) is Weights.REPAIRED else InheritedEvaluator
        return kind(self.supernet(), self.calibration(), self.images(Split.VALID), Scope(scope), device=device)

    def feature(self, feature: Feature, scope: Scope | str = Scope.LAYERS) -> Known:
        """See `Task`; of the network, what the calibration images and their labels tell."""
        if not feature.needs_network:
            return super().feature(feature, scope)
        if self.table is not None and Scope(scope) is Scope.LAYERS:
            return self._read_table().features[feature]
        key = self.weights_digest, self.data, self.data_root, Scope(scope), feature
        if key not in _known:
            from ads_gym.nets.importance import network_feature

            _known[key] = network_feature(self.supernet(), self.calibration(), feature, Scope(scope))
        return _known[key]

    @property
    def tabulated(self) -> "Mapping[Weights, Mapping[str, NDArray[Any]]]":
        """The columns of its table, for the kinds of weights that are in it; see `Table`.

        Raises:
            NotFound, DamagedFile: no table where it should have one.
        """
        return {} if self.table is None else self._read_table().columns

    def with_table(self, table: Table) -> "SupernetTask":
        """Write a table of all its architectures beside it, and return the task that has it.

        Raises:
            StorageError: no space or no permission; the task is as it was.
        """
        content = table.to_bytes()
        made = replace(self, table=hashlib.sha256(content).hexdigest())
        without = Description(self.name, self.config, self.data, self.record)
        if self.table is not None:  # a kill leaves no task that names another table than the one beside it
            write_description(self.folder, without)
        write_file(self.files.table, content)
        write_description(self.folder, replace(without, table=made.table))
        return made

    def copied(self, folder: Path) -> "SupernetTask":
        """Return the same task in another folder, with copies of its files; one that is there already is kept.

        Raises:
            DamagedFile, NotFound: a file that is missing, or no such weights.
            StorageError: no space or no permission.
        """
        there = task_files(folder, self.name)
        if not there.complete():
            if self.table is not None:
                write_file(there.table, read_bytes(self.files.table, TABLE, TABLE_LIMIT))
            weights = read_bytes(self.files.weights, "weights file", MAX_TENSORS_BYTES)
            write_task(folder, Description(self.name, self.config, self.data, self.record, table=self.table), weights)
        return _from_folder(folder, self.name, self.data_root)

    def _read_table(self) -> Table:
        table = read_table(self.files.table, Topology(self.config.blocks), str(self.table))
        if table.network != self.weights_digest:
            raise DamagedFile(
                f"{self.files.table} is of other weights than {self.files.weights}. Restore them, or train it again."
            )
        return table

    @property
    def weights_digest(self) -> str:
        """SHA-256 of the file with its weights."""
        return digest(self.files.weights, "weights file", MAX_TENSORS_BYTES)

    @property
    def evaluated_images(self) -> int:
        """See `Task`."""
        return self.data.calibration + self.data.valid

    @property
    def files(self) -> TaskFiles:
        """Where its description and weights are."""
        return task_files(self.folder, self.name)


class TaskEntry(NamedTuple):
    """A line in the list of tasks."""

    name: str
    where: str
    ready: bool


def task_names() -> list[TaskEntry]:
    """Every task that has a name, where it is or would be, and whether its supernet is there."""
    with file_errors(tasks_home()):
        trained = sorted(path.parent.name for path in tasks_home().glob("*/task.json"))
    own = [name for name in trained if name not in PRESETS and name not in PLANTED]
    entries = []
    for name in (*PRESETS, *own):
        folder = _named_folder(name)
        where = "built in" if folder == PACKAGED else str(folder)
        entries.append(TaskEntry(name, where, task_files(folder, name).complete()))
    return [*entries, *(TaskEntry(name, "built in", True) for name in PLANTED)]


@checked
def save_task(
    folder: Path | str,
    name: Name,
    config: DenseNetConfig,
    data: DataSpec,
    state_dict: Mapping[str, Any],
    record: TrainingRecord = TrainingRecord(),  # noqa: B008 - it is frozen
) -> SupernetTask:
    """Writes task.json and supernet.safetensors, whole or not at all, and gives the task that they are.

    Args:
        folder: made if it is not there; a task that is in it is replaced.
        name: of the task.
        config, data, record: see `Task`; the path of a user's own data is stored in full.
        state_dict: the supernet's.

    Raises:
        StorageError: no space or no permission; a task that was there before is still there.
    """
    from ads_gym.nets.tensorfile import to_safetensors

    if data.path is not None:
        data = replace(data, source=str(resolve(data.path)))
    folder = resolve(folder)
    write_task(folder, Description(name, config, data, record), to_safetensors(state_dict))
    return _from_folder(folder, name, None)


def _from_folder(folder: Path, name: str, data_root: Path | None) -> SupernetTask:
    files = task_files(folder, name)
    if not is_file(files.description):
        raise NotFound(
            f"there is no task in {folder}: expected {files.description.name} and {files.weights.name} in it. "
            "Make a task of your own data: ads-gym train-supernet --data PATH --out FOLDER"
        )
    description = read_description(files.description)
    if not is_file(files.weights):
        raise NotFound(f"{files.description} is there, and its weights {files.weights} are missing. Train it again.")
    found = description
    return SupernetTask(found.name, found.config, found.data, folder, found.record, data_root, found.table)


def _is_plain(name: str) -> bool:
    """A name and no path."""
    no_name = name in ("", ".", "..") or len(name) > MAX_NAME or not name.isprintable()
    return not no_name and not any(mark in name for mark in ("/", os.sep, "~"))


def _named_folder(name: str) -> Path:
    """Where a task of this name is or would be: what a user trained goes before what ships with ads-gym."""
    folder = tasks_home() / name
    is_packaged = is_file(task_files(PACKAGED, name).description)
    return PACKAGED if is_packaged and not is_file(task_files(folder, name).description) else folder
