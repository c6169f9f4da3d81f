"""What `ads-gym train-supernet` was asked for: its options, and what is usual for the data where one is not given."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typer

from ads_gym.architecture import DenseNetConfig, Stem
from ads_gym.data.spec import SOURCES
from ads_gym.data.splits import DataSpec, default_spec, describe
from ads_gym.errors import InvalidValue, unknown_name
from ads_gym.nets.training import ConnectionDropout, Recipe
from ads_gym.tasks import PLANTED, Task, tasks_home
from ads_gym.tasks.presets import Usual, usual

STEMS = {1: Stem.CONV3, 2: Stem.CONV3_STRIDE2, 4: Stem.CONV7_POOL}  # by stride
Record = TypeVar("Record", DataSpec, Usual, ConnectionDropout)
Options = Mapping[str, Any]  # by name; None = not given


class Making(NamedTuple):
    """A task that is to be made, and how."""

    name: str
    folder: Path
    data: DataSpec
    config: DenseNetConfig
    recipe: Recipe

    def made_before(self, weights: Path | None) -> Task | None:
        """The task that is in the folder already, if it is this one.

        Raises:
            InvalidValue: it is another one, and took its time to train.
        """
        if not (self.folder / "task.json").exists():
            return None
        task = Task.load(self.folder)
        recipe = json.loads(json.dumps(self.recipe.to_dict()))
        is_same = (task.config, task.data, task.record.get("recipe")) == (self.config, self.data, recipe)
        if is_same and weights is None:
            return task
        raise InvalidValue(
            f"there is a task of other settings in {self.folder}: give another --out FOLDER, or --replace it."
        )


def assemble(task: str | None, data: Path | None, out: Path | None, data_root: Path | None, options: Options) -> Making:
    """The task that is to be made.

    Args:
        task, data: a named data set, or a path: one of them.
        out: a folder; None: where tasks are looked for by name.
        data_root: where data sets lie.
        options: all others that describe network, images and recipe.

    Raises:
        AdsGymError: options that make no task, data that cannot be read.
    """
    source, name, folder = _names(task, data, out)
    spec = default_spec(source, options["size"], data_root=data_root)
    if options["train"] is not None:
        spec = replace(spec, calibration=max(2, min(spec.calibration, options["train"])))
    spec = _given(spec, options, "train", "valid", "test", "calibration")
    image_shape, classes = describe(spec, data_root)
    parsed = {"blocks": _blocks(options["blocks"]), "stem": _stem(options["stem_stride"])}
    choice = _given(
        usual(source, image_shape),
        {**options, **parsed, "stem_channels": options["stem"]},
        *("blocks", "growth", "stem_channels", "stem", "epochs", "batch_size", "learning_rate", "shift", "flip"),
    )
    config = DenseNetConfig(
        choice.blocks,
        choice.growth,
        choice.stem_channels,
        choice.stem,
        options["bottleneck"],
        options["compression"],
        image_shape,
        classes,
    )
    return Making(name, folder, spec, config, _recipe(choice, options))


class Names(NamedTuple):
    """What a task is made of, and what it is called."""

    source: str  # a named data set or a path
    name: str
    folder: Path


def _names(task: str | None, data: Path | None, out: Path | None) -> Names:
    if (task is None) == (data is None):
        raise typer.BadParameter("give either --task NAME (a named data set) or --data PATH (your own images).")
    if task is not None and task not in SOURCES:
        raise unknown_name("data set", task, SOURCES)
    if data is None:
        source = name = str(task)
    else:
        path = data.expanduser().absolute()
        source, name = str(path), path.name if path.is_dir() else path.stem
        if out is None and name in (*SOURCES, *PLANTED):
            raise InvalidValue(f"a task called {name!r} would hide the one of that name: say where by --out FOLDER.")
    if out is None:
        return Names(source, name, tasks_home() / name)
    folder = out.expanduser().absolute()
    return Names(source, folder.name, folder)


def _given(record: Record, options: Options, *names: str) -> Record:
    """The record with those of the named options that were given."""
    return replace(record, **{name: options[name] for name in names if options[name] is not None})


def _blocks(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidValue(f"--blocks are whole numbers with commas between, such as 6,6,6; got {text!r}.") from error


def _stem(stride: int | None) -> Stem | None:
    if stride is not None and stride not in STEMS:
        raise InvalidValue(f"--stem-stride is 1, 2 or 4, got {stride}.")
    return None if stride is None else STEMS[stride]


def _recipe(choice: Usual, options: Options) -> Recipe:
    dropout = None
    if options["cost_range"] is not None:
        dropout = _given(ConnectionDropout(*options["cost_range"]), options, "masks_per_step")
    elif options["masks_per_step"] is not None:
        raise typer.BadParameter("--masks-per-step says how connections are dropped: give --cost-range LOW HIGH too.")
    return Recipe(
        epochs=choice.epochs,
        batch_size=choice.batch_size,
        learning_rate=choice.learning_rate,
        shift=choice.shift,
        flip=choice.flip,
        dropout=dropout,
        seed=options["seed"],
    )
