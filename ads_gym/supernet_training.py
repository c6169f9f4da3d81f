"""Make a task: train a supernet or take given weights, measure its inherited accuracies, store it."""

import platform
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.images import ImageSet, network_input
from ads_gym.data.splits import DataSpec, Split, calibration_images, default_spec, describe, load_splits
from ads_gym.devices import resolve_device
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.evaluators.base import BaseEvaluator
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.files import digest, exists, is_file, locked, resolve
from ads_gym.limits import MAX_TENSORS_BYTES
from ads_gym.nets.cost import CostTable, check_training_memory
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.sparse import calibrate
from ads_gym.nets.tensorfile import load_weights, plain_names, read_state_dict
from ads_gym.nets.training import ConnectionDropout, Progress, Recipe, fit, settings_digest
from ads_gym.records import Masks, Name, Seed, checked, record
from ads_gym.tasks import SupernetTask, save_task, tasks_home
from ads_gym.tasks.presets import PRESETS, Preset, split_name
from ads_gym.tasks.training_record import GivenWeights, SpreadRow, TrainingRecord
from ads_gym.topology import Topology

SPREAD_COSTS = (1.0, 0.9, 0.7, 0.5, 0.3, 0.0)  # relative costs; 0 is the chain


@record
class SupernetSettings:
    """What a supernet is made of, and how.

    Args:
        data: which images, and how they are divided. TEST is not read.
        config: of the supernet; its image shape and classes are those of the data.
        recipe: how it is trained.
        weights: a state dict of this config (.safetensors, or .pt of tensors only) that is taken as it is, instead of
            training; None = train.
    """

    data: DataSpec
    config: DenseNetConfig
    recipe: Recipe
    weights: Path | None = None

    def made_by(self) -> Recipe | GivenWeights:
        """What the task's record says."""
        if self.weights is None:
            return self.recipe
        return GivenWeights(self.weights.name, digest(self.weights, "weights file", MAX_TENSORS_BYTES)[:16])


@checked
def train_supernet(
    settings: SupernetSettings,
    folder: Path | str,
    name: Name,
    *,
    replace_task: bool = False,
    device: str = "auto",
    data_root: Path | str | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> SupernetTask:
    """Make a task: a supernet for the data, its inherited accuracies, and both files in `folder`.

    A run that is killed goes on from its last epoch when the same call is made again. A task of the same settings that
    is in the folder already is returned as it is. At the end the dense network's BatchNorm statistics are those of the
    calibration images, so that it scores what its mask does.

    Args:
        settings: data, network and recipe.
        folder: of the task.
        name: of the task.
        replace_task: whether a task that is in the folder is replaced.
        device: see `resolve_device`.
        data_root: where named data sets lie.
        download: whether a named data set that is missing may be fetched.
        progress: called after every epoch.

    Raises:
        AdsGymError: data, weights, device, folder or checkpoint that cannot be used; a task of other settings or other
            data in the folder; another process that is training there.
    """
    folder = resolve(folder)
    if settings.weights is not None:
        settings = replace(settings, weights=resolve(settings.weights))
    if settings.data.path is not None and exists(resolve(settings.data.path)):  # as the task will name it
        settings = replace(settings, data=replace(settings.data, source=str(resolve(settings.data.path))))
    if not replace_task and (task := _find_made(settings, folder, data_root)) is not None:
        return task
    check_settings(settings)
    where = resolve_device(device)
    with locked(folder, "training a supernet"):
        if not replace_task and (task := _find_made(settings, folder, data_root)) is not None:
            return task  # another process ended just now
        splits = load_splits(settings.data, data_root, download)
        return _make(settings, folder, name, splits, where, progress)


def preset_settings(
    spec: DataSpec, preset: Preset, recipe: Recipe, weights: Path | None = None, data_root: Path | str | None = None
) -> SupernetSettings:
    """The settings of a preset's network on data.

    Args:
        spec: of the data.
        preset: whose network it is.
        recipe: how it is trained.
        weights: see `SupernetSettings`.
        data_root: where named data sets lie.
    """
    image_shape, classes = describe(spec, data_root)
    config = DenseNetConfig(
        preset.blocks,
        preset.growth,
        preset.stem_channels,
        preset.stem,
        preset.bottleneck,
        preset.compression,
        image_shape,
        classes,
    )
    return SupernetSettings(spec, config, recipe, weights)


def preset_recipe(preset: Preset, seed: int, dropout: ConnectionDropout | None = None) -> Recipe:
    """How a preset's network is trained."""
    return Recipe(
        epochs=preset.epochs,
        batch_size=preset.batch_size,
        learning_rate=preset.learning_rate,
        shift=preset.shift,
        flip=preset.flip,
        dropout=dropout,
        seed=seed,
    )


def named_task(name: str, data_root: Path | str | None = None, progress: Progress | None = None) -> SupernetTask:
    """The task of a preset's name, digits@3 and such; trained, and kept, if that was not done yet.

    Args:
        name: see `presets.is_preset`.
        data_root: where named data sets lie.
        progress: called after every epoch.

    Raises:
        AdsGymError: data that cannot be used, or a folder; what is there of digits@3 was made by other settings.
    """
    if split_name(name)[1] is None:
        with suppress(NotFound):  # whatever the user made under that name is meant
            return SupernetTask.find(name, data_root)
    settings = named_settings(name, data_root)
    return train_supernet(settings, tasks_home() / name, name, data_root=data_root, progress=progress)


def named_settings(name: str, data_root: Path | str | None = None) -> SupernetSettings:
    """The settings of a preset's name, digits@3 and such.

    Args:
        name: see `presets.is_preset`.
        data_root: where named data sets lie.

    Raises:
        AdsGymError: data that cannot be used.
    """
    base, seed = split_name(name)
    preset = PRESETS[base]
    spec = default_spec(preset.source, data_root=data_root)
    return preset_settings(spec, preset, preset_recipe(preset, seed or 0), None, data_root)


def check_settings(settings: SupernetSettings) -> None:
    """Refuse, before anything is read or trained, what could only fail at the end.

    Raises:
        InvalidValue: a network without skip connections, one that needs more memory than is allowed, or weights of
            another network.
        NotFound, DamagedFile, StorageError: weights that cannot be read.
    """
    Topology(settings.config.blocks)
    check_training_memory(settings.config, settings.recipe)
    if settings.weights is not None:
        _load(DenseNet(settings.config), settings.weights)


def data_digest(splits: Mapping[Split, ImageSet], *used: Split) -> str:
    """Stands for the images and labels of some splits."""
    return settings_digest(*(splits[split].digest for split in used))


def _find_made(settings: SupernetSettings, folder: Path, data_root: Path | str | None) -> SupernetTask | None:
    """The task in the folder, if it is made of the same settings and data.

    Raises:
        InvalidValue: it is made of others.
    """
    if not is_file(folder / "task.json"):
        return None
    task = SupernetTask.find(folder, data_root)
    advice = "give another --out FOLDER, or --replace it"
    if (task.config, task.data, task.record.recipe) != (settings.config, settings.data, settings.made_by()):
        raise InvalidValue(f"there is a task of other settings in {folder}: {advice}.")
    if (stored := task.record.data) is None:
        warnings.warn(
            f"the task in {folder} does not say of which images it was made: they may have changed since.", stacklevel=3
        )
        return task
    try:
        splits = load_splits(settings.data, data_root)
    except NotFound:  # a published data set that was removed since
        return task
    if data_digest(splits, Split.TRAIN, Split.VALID) != stored:
        raise InvalidValue(
            f"the images or labels of {settings.data.source} changed after the task in {folder} was made: {advice}."
        )
    return task


def _make(
    settings: SupernetSettings,
    folder: Path,
    name: str,
    splits: Mapping[Split, ImageSet],
    device: torch.device,
    progress: Progress | None,
) -> SupernetTask:
    data, config, recipe = settings.data, settings.config, settings.recipe
    digest = data_digest(splits, Split.TRAIN, Split.VALID)
    calibration = calibration_images(data, splits[Split.TRAIN])
    checkpoint = folder / f"checkpoint-{settings_digest(data, config, recipe, digest)}.safetensors"
    torch.manual_seed(recipe.seed)
    supernet = DenseNet(config).to(device)
    made_by = settings.made_by()
    if settings.weights is not None:
        _load(supernet, settings.weights)
    else:
        fit(supernet, splits[Split.TRAIN], recipe, checkpoint, progress)
    calibrate(supernet, network_input(calibration.images.to(device)))
    evaluator = InheritedEvaluator(supernet, calibration, splits[Split.VALID], device=str(device))
    versions = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
    record = TrainingRecord(made_by, digest, tuple(spread(evaluator)), versions)
    task = save_task(folder, name, config, data, supernet.state_dict(), record)
    checkpoint.unlink(missing_ok=True)
    return task


@checked
def spread(
    evaluator: BaseEvaluator, masks_per_row: Masks = 16, seed: Seed = 0, progress: Callable[[int], None] | None = None
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
    """Load a user's weights into `supernet`; nothing in the file is run."""
    weights = plain_names(read_state_dict(path))
    try:
        load_weights(supernet, weights, path)
    except DamagedFile as error:
        raise InvalidValue(f"{error} Check --blocks, --growth, --stem, --bottleneck and --compression.") from error
