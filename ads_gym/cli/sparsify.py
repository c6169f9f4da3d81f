"""`ads-gym sparsify`: make a trained DenseNet smaller."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ads_gym.cli.options import AgentOption, DeviceOption

if TYPE_CHECKING:
    from rich.table import Table

    from ads_gym.data.preprocessing import Preprocessing
    from ads_gym.runs.sparsify_record import SparsifyRecord

IMAGES, SEARCH = "Images", "Search"


def sparsify(  # noqa: PLR0913 - an option each
    model: Annotated[
        str,
        typer.Argument(
            help="A weights file of torchvision's DenseNet (.pt, .pth, .safetensors), or densenet121, 161, 169, 201.",
            metavar="MODEL",
        ),
    ],
    *,
    images: Annotated[Path, typer.Option(help="A folder of images, or of class folders.", metavar="FOLDER")],
    max_macs: Annotated[float, typer.Option(help="Limit on MACs / dense MACs.")] = 0.7,
    max_latency: Annotated[
        float | None, typer.Option(help="Limit on the time of one image / that of the dense network, on this machine.")
    ] = None,
    distil: Annotated[
        int | None,
        typer.Option(
            help="Steps of distillation from the dense network; default: 1000, or 0 for images of more than 64 pixels "
            "on a CPU."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Where all goes; default: runs/MODEL-MAX_MACS[-MAX_LATENCY].")
    ] = None,
    valid: Annotated[
        Path | None,
        typer.Option(
            help="Images that score networks; default: a quarter of --images.",
            metavar="FOLDER",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Images that are read once, at the end.", metavar="FOLDER", rich_help_panel=IMAGES),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="The network's class of each class folder, by name: 3,17,40.",
            metavar="N,N,...",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    resize: Annotated[int, typer.Option(help="Pixels of the shorter side.", rich_help_panel=IMAGES)] = 256,
    crop: Annotated[int, typer.Option(help="Pixels of the middle that is kept.", rich_help_panel=IMAGES)] = 224,
    mean: Annotated[
        str | None,
        typer.Option(help="Of each channel, 0 to 1; default: ImageNet's.", metavar="R,G,B", rich_help_panel=IMAGES),
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Likewise; one number: grey.", metavar="R,G,B", rich_help_panel=IMAGES)
    ] = None,
    evaluations: Annotated[
        int, typer.Option(help="Networks to evaluate in a search for connections to drop.", rich_help_panel=SEARCH)
    ] = 0,
    agent: AgentOption = "local",
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Make a trained DenseNet smaller: drop what it needs least, solve weights again.

    Labels are not needed. Images are resized, cropped and normalised as for
    ImageNet's weights unless options say otherwise. If it is interrupted or
    killed, the same command goes on; a run that is over is shown again.
    """
    from rich.console import Console

    from ads_gym.compression.sparsify import sparsify as compress
    from ads_gym.nets.model_file import load_densenet
    from ads_gym.tables import print_table

    transform = _preprocessing(resize, crop, mean, std)
    loaded = load_densenet(model, (crop, crop))
    print(f"weights: {loaded.source}", file=sys.stderr)
    _check_channels(transform, loaded.network.config.image_shape[0])
    within = f"{max_macs:g}" if max_latency is None else f"{max_macs:g}-{max_latency:g}"
    folder = run or Path("runs") / f"{Path(model).stem}-{within}"
    made = compress(
        loaded.network,
        images,
        valid=valid,
        test=test,
        classes=None if classes is None else tuple(map(int, _numbers("--classes", classes, int))),
        transform=transform,
        max_macs=max_macs,
        max_latency=max_latency,
        evaluations=evaluations,
        agent=agent,
        distil=distil,
        device=device,
        seed=seed,
        run=folder,
    )
    console = Console(highlight=False)
    print_table(_table(made.record), console)
    for line in made.notes():
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"network, report.html and sparsify.json  {made.folder}", markup=False, soft_wrap=True)


def _preprocessing(resize: int, crop: int, mean: str | None, std: str | None) -> "Preprocessing":
    from ads_gym.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

    if (mean is None) != (std is None):
        raise typer.BadParameter("give both --mean and --std, or neither: ImageNet's are for both.")
    means = IMAGENET_MEAN if mean is None else _numbers("--mean", mean, float)
    stds = IMAGENET_STD if std is None else _numbers("--std", std, float)
    return Preprocessing(resize, crop, means, stds)


def _check_channels(transform: "Preprocessing", channels: int) -> None:
    """Check that photos become images with as many channels as the network reads.

    Raises:
        InvalidValue: they do not.
    """
    from ads_gym.errors import InvalidValue

    if channels not in (1, 3):
        raise InvalidValue(f"the network reads images of {channels} channels, and photos have three, or one if grey.")
    if len(transform.mean) != channels:
        asked = "one number each (the photos become grey)" if channels == 1 else "three numbers each"
        raise InvalidValue(f"the network reads images of {channels} channels: give --mean and --std, {asked}.")


def _numbers(option: str, text: str, kind: type[float]) -> tuple[float, ...]:
    from ads_gym.errors import InvalidValue, shown

    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidValue(f"{option} are numbers with commas between, got {shown(text)}.") from error


def _table(record: "SparsifyRecord") -> "Table":
    from ads_gym.runs.progress import duration
    from ads_gym.tables import make_table

    columns = (record.measured, "loss", "relative\nMACs", "MACs", "parameters", "time")
    title = f"{record.model} on {record.images.valid:,} validation images"
    table = make_table(("network",), columns, title)
    for stage in record.stages:
        table.add_row(
            stage.name,
            f"{stage.valid.accuracy:.4f}",
            f"{stage.valid.loss:.4f}",
            f"{stage.macs / record.stages[0].macs:.3f}",
            f"{stage.macs:,}",
            f"{stage.parameters:,}",
            duration(stage.seconds),
        )
    return table
