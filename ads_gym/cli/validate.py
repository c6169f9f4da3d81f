"""`ads-gym validate`: check the results of a benchmark."""

from pathlib import Path
from typing import Annotated

import typer

from ads_gym.cli.options import DataRootOption


def validate(
    results: Annotated[Path, typer.Argument(help="The folder of a benchmark.")],
    replay: Annotated[
        bool, typer.Option(help="Let the agents play again, too: runs the code that the results name.")
    ] = False,
    data_root: DataRootOption = None,
) -> None:
    """Check the results of a benchmark: score again what is claimed.

    The best architectures are scored again on the supernets that come with
    the results, and every curve is built again from the order of the run's
    record. No code is run that the results name, unless agents play again.
    Exits with 1 where something does not hold. Seconds are not checked.
    """
    from ads_gym.benchmark.validation import validate as check

    found = check(results, replay=replay, data_root=data_root)
    for sentence in found:
        print(sentence)
    if found:
        raise typer.Exit(1)
    print(
        "It holds: scores are those of the networks, curves and tables those of the runs' records"
        + (", and the agents play so again." if replay else ". (Whether the agents played so: --replay.)")
    )
