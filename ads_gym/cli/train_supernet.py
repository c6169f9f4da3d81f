"""`ads-gym train-supernet`: train a supernet, which makes a task."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ads_gym.cli.options import DataRootOption, DeviceOption, SourceOption

if TYPE_CHECKING:
    from ads_gym.tasks import SupernetTask


def _option(panel: str | None, text: str, **keywords: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, **keywords)


NETWORK, IMAGES, RECIPE = "Network", "Images", "Recipe"

Data = Annotated[Path | None, _option(None, "Your images: an .npz or a folder of class folders.", metavar="PATH")]
Out = Annotated[Path | None, _option(None, "Where the task goes; default: where --task finds it.", metavar="FOLDER")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a task that is there already.")]
Weights = Annotated[Path | None, _option(None, "A trained state dict of this network: skips training.", metavar="FILE")]
Download = Annotated[bool, typer.Option("--download", help="Fetch a named data set that is missing.")]
Blocks = Annotated[str | None, _option(NETWORK, "Layers in each block: 6,6,6.")]
Growth = Annotated[int | None, _option(NETWORK, "Channels that each layer adds.")]
StemChannels = Annotated[int | None, _option(NETWORK, "Channels of the first map.")]
StemStride = Annotated[int | None, _option(NETWORK, "1 or 2: a 3x3 convolution. 4: 7x7 and a pool, as for ImageNet.")]
Bottleneck = Annotated[bool, typer.Option("--bottleneck", help="A 1x1 before each 3x3.", rich_help_panel=NETWORK)]
Compression = Annotated[float | None, _option(NETWORK, "Share of channels that transitions let through.")]
Network = Annotated[str | None, _option(NETWORK, "All of these at once: densenet40, 121, 161, 169 or 201.")]
Size = Annotated[int | None, _option(IMAGES, "Resize to so many pixels, square.")]
Train = Annotated[int | None, _option(IMAGES, "How many train; default: all that are left.")]
Valid = Annotated[int | None, _option(IMAGES, "How many reward and choose.")]
Test = Annotated[int | None, _option(IMAGES, "How many are kept for the end.")]
Calibration = Annotated[int | None, _option(IMAGES, "How many of TRAIN estimate BatchNorm statistics.")]
Epochs = Annotated[int | None, _option(RECIPE, "Passes over TRAIN.")]
BatchSize = Annotated[int | None, _option(RECIPE, "Images a step.")]
LearningRate = Annotated[float | None, _option(RECIPE, "At its peak.")]
Shift = Annotated[int | None, _option(RECIPE, "Move each image by up to so many pixels.")]
Flip = Annotated[bool | None, _option(RECIPE, "Mirror half of the images.")]
Seed = Annotated[
    int | None, _option(RECIPE, "Of weights, order, augmentation and masks; default: 0, or 3 of digits@3.")
]
CostRange = Annotated[
    tuple[float, float] | None,
    _option(RECIPE, "Train with random masks of such relative costs too.", metavar="LOW HIGH"),
]
MasksPerStep = Annotated[int | None, _option(RECIPE, "How many in one step, with --cost-range.")]


def train_supernet(  # noqa: PLR0913 - an option each
    *,
    task: SourceOption = None,
    data: Data = None,
    out: Out = None,
    replace: Replace = False,
    weights: Weights = None,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    download: Download = False,
    network: Network = None,
    blocks: Blocks = None,
    growth: Growth = None,
    stem: StemChannels = None,
    stem_stride: StemStride = None,
    bottleneck: Bottleneck = False,
    compression: Compression = None,
    size: Size = None,
    train: Train = None,
    valid: Valid = None,
    test: Test = None,
    calibration: Calibration = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    shift: Shift = None,
    flip: Flip = None,
    seed: Seed = None,
    cost_range: CostRange = None,
    masks_per_step: MasksPerStep = None,
) -> None:
    """Make a task: train a supernet on a named data set or on your own images.

    Give --task NAME or --data PATH. Options that are not given are those of
    the data's preset. If it is killed, the same command goes on from the
    last epoch.
    """
    options = dict(locals())
    from ads_gym.cli.progress_bars import EpochBar

    with EpochBar("reading data, then epoch 1") as bar:
        from ads_gym.cli.supernet_options import read_options
        from ads_gym.supernet_training import train_supernet as make_task

        name, folder, settings, table = read_options(task, data, out, data_root, options)
        epochs = settings.recipe.epochs
        made = make_task(
            settings,
            folder,
            name,
            replace_task=replace,
            device=device,
            data_root=data_root,
            download=download,
            progress=lambda epoch, loss: bar.update("training", epoch, epochs, loss, "measuring inherited accuracy"),
        )
    if table:
        from ads_gym.cli.tabulate import score_all

        score_all(made, device)
    _print(made, name if out is None else _path_for_shell(out, folder))


def _path_for_shell(given: Path, folder: Path) -> str:
    """A folder as --task takes it: never a name, for a task of that name would go first."""
    if given.expanduser() != given or given.is_absolute():
        return shlex.quote(str(folder))
    return shlex.quote(f"./{given}" if len(given.parts) == 1 else str(given))


def _print(task: "SupernetTask", name: str) -> None:
    """The table of inherited metrics, where the task is, and what can be done with it."""
    from rich.console import Console

    from ads_gym.tables import make_table, print_table

    title = "Inherited on VALID: mean and standard deviation over random masks"
    table = make_table((), ("relative cost", "masks", "accuracy", "soft accuracy", "loss"), title)
    for row in task.record.spread:
        cells = [f"{mean:.4f}" for mean in (row.accuracy, row.soft_accuracy, row.loss)]
        if row.masks > 1:
            sds = (row.accuracy_sd, row.soft_accuracy_sd, row.loss_sd)
            cells = [f"{cell} ± {sd:.4f}" for cell, sd in zip(cells, sds, strict=True)]
        ends = {1.0: "1 (dense)", 0.0: "0 (chain)"}
        table.add_row(ends.get(row.relative_cost, str(row.relative_cost)), str(row.masks), *cells)
    console = Console(highlight=False)
    print_table(table, console)
    console.print(f"task    {task.folder}", markup=False, soft_wrap=True)
    console.print(f"search  ads-gym search --task {name}", markup=False, soft_wrap=True)
