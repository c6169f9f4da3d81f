"""`ads-gym report`: write a run's report as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from ads_gym.cli.options import DeviceOption


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished search or sparsify.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; default: report.html in the folder.")] = None,
    latency: Annotated[
        bool,
        typer.Option(help="Measure how long a batch takes on this machine, in the dense and in the found network."),
    ] = True,
    device: DeviceOption = "auto",
) -> None:
    """Write the report of a run: one HTML file, which needs no network.

    Networks side by side, pictures of the search and of the connections that
    are kept, how to load the network, and how to get the same run again.
    """
    from ads_gym.reports.html import write_report

    print(f"report                    {write_report(run, out, latency=latency, device=device)}")
