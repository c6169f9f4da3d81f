"""From data to a task: train a supernet or take one as it is, see what its inherited accuracies are, store it all."""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.images import network_input
from ads_gym.data.splits import DataSpec, Split, calibration_images, load_splits
from ads_gym.devices import resolve_device
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.evaluators.base import Evaluator
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.sparse import calibrate
from ads_gym.nets.tensorfile import load_tensors
from ads_gym.nets.training import Progress, Recipe, fit, settings_digest
from ads_gym.tasks import Task, save_task

if TYPE_CHECKING:
    from torch import Tensor

SPREAD_COSTS = (1.0, 0.9, 0.7, 0.5, 0.3, 0.0)  # relative costs; 0 is the chain


@dataclass(frozen=True)
class SpreadRow:
    """Inherited metrics of random masks of one relative cost on VALID: mean and standard deviation over the masks."""

    relative_cost: float
    masks: int
    accuracy: float
    accuracy_sd: float
    soft_accuracy: float
    soft_accuracy_sd: float
    loss: float  # nats
    loss_sd: float


def train_supernet(  # noqa: PLR0913 - each is a choice of the user
    data: DataSpec,
    config: DenseNetConfig,
    recipe: Recipe,
    folder: Path,
    name: str,
    *,
    weights: Path | None = None,
    device: str = "auto",
    data_root: Path | str | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> Task:
    """Make a task: a supernet for `data`, its spread, and both files in `folder`.

    A run that is killed goes on from its last epoch when the same call is made again. At the end the dense network's
    BatchNorm statistics are those of the calibration images, so that it scores what its mask does.

    Args:
        data: which images, and how they are divided. TEST is not read.
        config: of the supernet; its image shape and classes are those of the data.
        recipe: how it is trained.
        folder: of the task.
        name: of the task.
        weights: a state dict of this config (.safetensors, or .pt of tensors only) to be taken as it is: no training.
        device: see `resolve_device`.
        data_root: where named data sets lie.
        download: whether a named data set that is missing may be fetched.
        progress: called after every epoch.

    Raises:
        AdsGymError: data, weights, device, folder or checkpoint that cannot be used.
    """
    where = resolve_device(device)
    splits = load_splits(data, data_root, download)
    calibration = calibration_images(data, splits[Split.TRAIN])
    checkpoint = folder / f"checkpoint-{settings_digest(data, config, recipe)}.pt"
    torch.manual_seed(recipe.seed)
    supernet = DenseNet(config).to(where)
    if weights is not None:
        _load(supernet, weights)
    else:
        fit(supernet, splits[Split.TRAIN], recipe, checkpoint, progress)
    calibrate(supernet, network_input(calibration.images.to(where)))
    evaluator = InheritedEvaluator(supernet, calibration, splits[Split.VALID], device=device)
    record = {
        "recipe": {"weights": str(weights.name)} if weights else recipe.to_dict(),
        "spread": [asdict(row) for row in spread(evaluator)],
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    task = save_task(folder, name, config, data, supernet.state_dict(), record)
    checkpoint.unlink(missing_ok=True)
    return task


def spread(
    evaluator: Evaluator, masks_per_row: int = 16, seed: int = 0, progress: Callable[[int], None] | None = None
) -> list[SpreadRow]:
    """The quality of a supernet: how inherited metrics fall, and how much masks of one cost differ.

    Args:
        evaluator: of the supernet.
        masks_per_row: random masks at each relative cost; dense and chain have one.
        seed: of the masks.
        progress: called with the rows done.
    """
    table = CostTable(evaluator.config, evaluator.topology.scope)
    rng, rows = np.random.default_rng(seed), []
    for cost in SPREAD_COSTS:
        count = masks_per_row if 0 < cost < 1 else 1
        metrics = evaluator.evaluate(np.stack([table.random_mask(rng, cost) for _ in range(count)]))
        values = np.array([(m.accuracy, m.soft_accuracy, m.loss) for m in metrics])
        pairs = np.stack([values.mean(axis=0), values.std(axis=0)], axis=1).ravel()
        rows.append(SpreadRow(cost, count, *(float(value) for value in pairs)))
        if progress is not None:
            progress(len(rows))
    return rows


def _load(supernet: DenseNet, path: Path) -> None:
    """Weights of the user's own into `supernet`; nothing in the file is run."""
    try:
        supernet.load_state_dict(_read_weights(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InvalidValue(
            f"{path} does not fit the network that was described ({reason}): check --blocks, --growth, --stem, "
            "--bottleneck and --compression."
        ) from error


def _read_weights(path: Path) -> "dict[str, Tensor]":
    if not path.is_file():
        raise NotFound(f"there are no weights {path}.")
    if path.suffix != ".safetensors":
        state = load_tensors(path)
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise DamagedFile(f"{path} should hold a state dict (names and tensors), got {type(state).__name__}.")
        return state
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFile(f"{path} is damaged, or no safetensors file: {error}") from error
