"""The options of `ads-gym train-supernet`; those left out come from the preset of the data set."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typer

from ads_gym.architecture import Stem
from ads_gym.data.splits import DataSpec, default_spec, describe
from ads_gym.errors import InvalidValue, shown, unknown_name
from ads_gym.evaluators.table import check_few
from ads_gym.files import exists, is_folder, locked, resolve
from ads_gym.nets.training import ConnectionDropout
from ads_gym.supernet_training import SupernetSettings, check_settings, preset_recipe, preset_settings
from ads_gym.tasks import PLANTED, tasks_home
from ads_gym.tasks.presets import PRESETS, Preset, find_preset, is_preset, split_name, with_network
from ads_gym.topology import Topology

STEMS = {1: Stem.CONV3, 2: Stem.CONV3_STRIDE2, 4: Stem.CONV7_POOL}  # by stride
Record = TypeVar("Record", DataSpec, Preset, ConnectionDropout)
Options = Mapping[str, Any]  # by name; None = not given


class SupernetOptions(NamedTuple):
    """A task that is to be made, and how."""

    name: str
    folder: Path
    settings: SupernetSettings
    table: bool  # whether all architectures are scored too


def read_options(
    task: str | None, data: Path | None, out: Path | None, data_root: Path | None, options: Options
) -> SupernetOptions:
    """Turn options into the task that is to be made.

    Args:
        task, data: a named data set, or a path: one of them.
        out: a folder; None: where tasks are looked for by name.
        data_root: where data sets lie.
        options: all others that describe network, images and recipe.

    Raises:
        AdsGymError: options that make no task, data that cannot be read, a folder that cannot be written.
    """
    source, name, folder = _names(task, data, out)
    preset_name = source if task is None else task
    seed = _seed(task, options["seed"])
    if not exists(folder / "task.json"):
        with locked(folder, "training a supernet"):
            pass  # reading the data may take long: before that, see whether the folder can be written
    spec = default_spec(source, options["size"], data_root=data_root)
    if options["train"] is not None:
        spec = replace(spec, calibration=max(2, min(spec.calibration, options["train"])))
    spec = _given(spec, options, "train", "valid", "test", "calibration")
    image_shape, _ = describe(spec, data_root)
    parsed = {"blocks": _blocks(options["blocks"]), "stem": _stem(options["stem_stride"])}
    preset = find_preset(preset_name, image_shape)
    if options["network"] is not None:
        preset = with_network(preset, options["network"])
    preset = _given(
        preset,
        {**options, **parsed, "stem_channels": options["stem"], "bottleneck": options["bottleneck"] or None},
        *("blocks", "growth", "stem_channels", "stem", "bottleneck", "compression"),
        *("epochs", "batch_size", "learning_rate", "shift", "flip"),
    )
    weights = None if options["weights"] is None else resolve(options["weights"])
    recipe = preset_recipe(preset, seed, _dropout(options))
    settings = preset_settings(spec, preset, recipe, weights, data_root)
    check_settings(settings)
    if preset.table:
        check_few(Topology(settings.config.blocks).size)
    return SupernetOptions(name, folder, settings, preset.table)


class Names(NamedTuple):
    """What a task is made of, and what it is called."""

    source: str  # a named data set or a path
    name: str
    folder: Path


def _names(task: str | None, data: Path | None, out: Path | None) -> Names:
    if (task is None) == (data is None):
        raise typer.BadParameter("give either --task NAME (a named data set) or --data PATH (your own images).")
    if task is not None and not is_preset(task):
        raise unknown_name("task to train", task, PRESETS)
    if data is None:
        name = str(task)
        source = PRESETS[split_name(name)[0]].source
    else:
        path = resolve(data)
        source, name = str(path), path.name if is_folder(path) else path.stem
        if out is None and (is_preset(name) or name in PLANTED):
            raise InvalidValue(f"a task called {name!r} would hide the one of that name: say where by --out FOLDER.")
    if out is None:
        return Names(source, name, tasks_home() / name)
    folder = resolve(out)
    if not folder.name:
        raise InvalidValue(f"a task has the name of its folder, and {folder} has none: give another --out.")
    return Names(source, folder.name, folder)


def _seed(task: str | None, given: int | None) -> int:
    """The seed of a training: as given, or as the task's name says it."""
    named = None if task is None else split_name(task)[1]
    if None not in (named, given) and named != given:
        raise InvalidValue(f"--task {task} says the seed {named}, and --seed {given}: give one of them.")
    return next((seed for seed in (given, named) if seed is not None), 0)


def _given(record: Record, options: Options, *names: str) -> Record:
    """The record with those of the named options that were given."""
    return replace(record, **{name: options[name] for name in names if options[name] is not None})


def _blocks(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidValue(
            f"--blocks are whole numbers with commas between, such as 6,6,6; got {shown(text)}."
        ) from error


def _stem(stride: int | None) -> Stem | None:
    if stride is not None and stride not in STEMS:
        raise InvalidValue(f"--stem-stride is 1, 2 or 4, got {stride}.")
    return None if stride is None else STEMS[stride]


def _dropout(options: Options) -> ConnectionDropout | None:
    """How connections are dropped in training, if they are."""
    if options["cost_range"] is not None:
        return _given(ConnectionDropout(*options["cost_range"]), options, "masks_per_step")
    if options["masks_per_step"] is not None:
        raise typer.BadParameter("--masks-per-step says how connections are dropped: give --cost-range LOW HIGH too.")
    return None
