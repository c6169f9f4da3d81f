"""`ads-gym retrain`: train the found and the dense network, and test both."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ads_gym.cli.options import DataRootOption, DeviceOption

if TYPE_CHECKING:
    from rich.table import Table

    from ads_gym.runs.retraining import RetrainReport


def retrain(
    run: Annotated[Path, typer.Argument(help="The folder of a finished search.")],
    epochs: Annotated[int, typer.Option(help="Passes over TRAIN.")] = 40,
    seeds: Annotated[int, typer.Option(help="Networks of each kind.")] = 3,
    inherit: Annotated[bool, typer.Option("--inherit", help="Start from the supernet's weights, repaired.")] = False,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
) -> None:
    """Train the network that a search found, and the dense one, by the same recipe; read TEST once for each.

    If it is killed, the same command goes on. Repeated, it shows what it has
    read, and does not read TEST again. More --seeds add to it.
    """
    from rich.console import Console

    from ads_gym.cli.progress_bars import EpochBar
    from ads_gym.tables import print_table

    with EpochBar("reading data, then epoch 1") as bar:
        from ads_gym.runs.retraining import retrain as train_both

        report = train_both(
            run,
            epochs=epochs,
            seeds=seeds,
            inherit=inherit,
            device=device,
            data_root=data_root,
            watch=lambda name, epoch, loss: bar.update(name, epoch, epochs, loss),
        )
    console = Console()
    print_table(_table(report), console)
    console.print(f"TEST was read {report.test_reads} times, once for each network.", highlight=False)
    console.print(f"networks and report.json  {report.folder}", highlight=False, markup=False, soft_wrap=True)


def _table(report: "RetrainReport") -> "Table":
    """Sparse beside dense."""
    from ads_gym.tables import make_table

    epochs, seeds = report.recipe.epochs, report.summaries()[0].seeds
    several = seeds > 1
    title = f"{epochs} epochs" + (f"; mean and standard deviation over {seeds} seeds" if several else "; one seed")
    columns = ("parameters", "relative\nMACs", "VALID\naccuracy", "TEST\naccuracy", "TEST\nloss")
    table = make_table(("network",), columns, title)
    for line in report.summaries():
        table.add_row(
            line.network,
            f"{line.parameters:,}",
            f"{line.relative_macs:.3f}",
            f"{line.valid_accuracy:.4f}",
            f"{line.test_accuracy:.4f}" + f" ± {line.test_accuracy_sd:.4f}" * several,
            f"{line.test_loss:.4f}" + f" ± {line.test_loss_sd:.4f}" * several,
        )
    return table
