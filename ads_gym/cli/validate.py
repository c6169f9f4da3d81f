"""`ads-gym validate`: check the results of a benchmark."""

from pathlib import Path
from typing import Annotated

import typer

from ads_gym.cli.options import DataRootOption


def validate(
    results: Annotated[Path, typer.Argument(help="The folder of a benchmark.")],
    replay: Annotated[bool, typer.Option(help="Let the agents play again, too.")] = False,
    data_root: DataRootOption = None,
) -> None:
    """Check the results of a benchmark: nothing is believed that can be computed.

    Every architecture that is claimed is scored again, on the supernets that
    come with the results, and every curve is built again from the order of
    the run's record. Exits with 1 where something does not hold.
    """
    from ads_gym.benchmark.validation import validate as check

    found = check(results, replay=replay, data_root=data_root)
    for sentence in found:
        print(sentence)
    if found:
        raise typer.Exit(1)
    print("All of it holds: scores, curves and tables are those of the networks and of the runs' records.")
