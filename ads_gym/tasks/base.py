"""Abstract base class of tasks: a network config and an evaluator of its architectures, under a name."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.spec import Split
from ads_gym.errors import InvalidValue, unknown_name
from ads_gym.evaluators.base import BaseEvaluator, Weights
from ads_gym.nets.cost import CostTable
from ads_gym.nets.features import Feature, Known, shape_feature
from ads_gym.topology import Scope

if TYPE_CHECKING:
    import torch

    from ads_gym.data.images import ImageSet
    from ads_gym.nets.densenet import DenseNet
    from ads_gym.nets.sparse import SparseDenseNet


class Task(ABC):
    """A network config and an evaluator of its architectures, under a name.

    Attributes:
        name: for people and folders.
        config: of the dense network.
        has_network: whether there are images and a trained network; where not, the methods about them raise.
    """

    name: str
    config: DenseNetConfig
    has_network: ClassVar[bool] = False
    kinds: ClassVar[list[type["Task"]]] = []  # all subclasses, in the order in which `load` asks them

    def __init_subclass__(cls) -> None:
        Task.kinds.append(cls)

    @classmethod
    @abstractmethod
    def find(cls, name: str | Path, data_root: Path | str | None = None) -> "Task | None":
        """Return the task of this kind with this name or in this folder; None where another kind may have it."""

    @staticmethod
    def load(name: str | Path, data_root: Path | str | None = None) -> "Task":
        """Return the task with this name or in this folder. Names go first: write ./digits for a folder called digits.

        Args:
            name: see `ads-gym tasks`; or the path of a folder that `ads-gym train-supernet` wrote.
            data_root: where named data sets lie; None = `$ADS_GYM_DATA`, or a folder of this program.

        Raises:
            UnknownName: no such task and no such folder.
            NotFound: a name whose supernet is not trained yet, or a folder without a task; says what to do.
            DamagedFile: a task file that cannot be used.
        """
        for kind in Task.kinds:
            if (found := kind.find(name, data_root)) is not None:
                return found
        raise unknown_name("task", name, [])

    @property
    def reference(self) -> str:
        """What `load` finds this task by: a name or a folder."""
        return self.name

    @abstractmethod
    def evaluator(
        self,
        scope: Scope | str = Scope.LAYERS,
        device: str = "auto",
        weights: Weights | str = Weights.INHERITED,
    ) -> BaseEvaluator:
        """Return what scores masks of this task.

        Args:
            scope: which skip connections masks are about.
            device: "auto", "cpu" or "cuda", where networks are evaluated.
            weights: "inherited", or "repaired": solved again in closed form.

        Raises:
            InvalidValue: weights to repair, where there are none.
        """

    def with_data_root(self, data_root: Path | str) -> "Task":
        """Return the same task with its data sets looked for elsewhere."""
        return self

    def images(self, split: Split) -> "ImageSet":
        """Return the images of a split, uint8 [n, c, h, w], on the CPU."""
        raise self._has_no_network()

    def calibration(self) -> "ImageSet":
        """Return the images of TRAIN on which BatchNorm statistics are estimated."""
        raise self._has_no_network()

    def supernet(self) -> "DenseNet":
        """Return the trained network with every connection, in eval mode, on the CPU; a new one at every call."""
        raise self._has_no_network()

    def inherit(self, architecture: Architecture, device: "torch.device | str" = "cpu") -> "SparseDenseNet":
        """Return the sparse network of an architecture with inherited weights and BatchNorm statistics of its own."""
        raise self._has_no_network()

    def repair(self, architecture: Architecture, device: "torch.device | str" = "cpu") -> "SparseDenseNet":
        """Return the same with its weights solved again in closed form (`ads_gym.nets.repair`), without labels."""
        raise self._has_no_network()

    @property
    def evaluated_images(self) -> int:
        """How many images an evaluation reads: those of the calibration, and VALID."""
        raise self._has_no_network()

    def feature(self, feature: Feature, scope: Scope | str = Scope.LAYERS) -> Known:
        """Return what is known of each skip connection before any evaluation; computed once in a process.

        Args:
            feature: which.
            scope: which skip connections.

        Raises:
            InvalidValue: a feature of a trained network, where there is none.
        """
        if not feature.needs_network:
            return Known(shape_feature(CostTable(self.config, Scope(scope)), feature), 0)
        raise self._has_no_network()

    def _has_no_network(self) -> InvalidValue:
        return InvalidValue(f"task {self.name!r} has no images and no weights: use a task that was trained.")
