"""`ads-gym latency`: time a sparse network beside the dense one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ads_gym.cli.options import DeviceOption

if TYPE_CHECKING:
    from rich.table import Table

    from ads_gym.nets.latency import Latency, Spread


def latency(
    file: Annotated[
        Path, typer.Argument(help="An architecture's JSON file, a saved network, or a run folder.", metavar="FILE")
    ],
    batch: Annotated[
        list[int] | None, typer.Option(help="Images at a time; may be repeated. Default: 1 and 64.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed calls of each network.")] = 30,
    fold: Annotated[bool, typer.Option(help="Fold BatchNorm into the convolutions of both networks.")] = True,
    device: DeviceOption = "auto",
) -> None:
    """Measure the latency of a sparse network and of the dense one, in float32.

    Weights are random, for the time does not depend on them. The two networks
    take turns; each time is a median, with 10th and 90th percentile behind it.
    """
    from rich.console import Console

    from ads_gym.architecture import Architecture, find_architecture
    from ads_gym.nets.latency import measure_latency
    from ads_gym.runs.step_lines import StepLines
    from ads_gym.tables import print_table

    architecture = Architecture.read(find_architecture(file))
    lines, measured = StepLines(shown=True), []
    for images in batch or (1, 64):
        with lines.long(f"timing batches of {images}", "repeats") as step:
            measured.append(
                measure_latency(architecture, images, folded=fold, device=device, repeats=repeats, progress=step.update)
            )
    first, console = measured[0], Console()
    folded = "BatchNorm folded" if fold else "not folded"
    print(f"{first.device}, CPU threads: {first.threads}, float32, {folded}, {repeats} repeats in turn")
    relative_macs = first.relative_macs
    print(f"relative MACs {relative_macs:.3f}: if time were proportional, the ratio would be {1 / relative_macs:.2f}")
    print_table(_table(measured), console)
    for line in measured:
        if line.verdict:
            print(line.verdict)


def _table(measured: "list[Latency]") -> "Table":
    from ads_gym.tables import make_table

    table = make_table((), ("batch", "dense, ms", "sparse, ms", "dense / sparse"))
    for line in measured:
        table.add_row(str(line.batch), _format(line.dense, 1e3), _format(line.sparse, 1e3), _format(line.ratio))
    return table


def _format(spread: "Spread", unit: float = 1.0) -> str:
    return f"{spread.median * unit:.2f} ({spread.low * unit:.2f}-{spread.high * unit:.2f})"
