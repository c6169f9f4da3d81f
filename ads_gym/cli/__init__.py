"""The command line: `ads-gym --help`. A file for each group of commands; what is heavy is imported inside them."""

import signal
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper

from ads_gym.cli.app import PROGRAM_OPTIONS, app, one_line
from ads_gym.cli.benchmark import benchmark
from ads_gym.cli.check_agent import check_agent
from ads_gym.cli.export import export
from ads_gym.cli.latency import latency
from ads_gym.cli.report import report
from ads_gym.cli.retrain import retrain
from ads_gym.cli.search import search
from ads_gym.cli.show import agents, show, tasks
from ads_gym.cli.sparsify import sparsify
from ads_gym.cli.tabulate import tabulate
from ads_gym.cli.throughput import throughput
from ads_gym.cli.train_policy import train_policy
from ads_gym.cli.train_supernet import train_supernet
from ads_gym.cli.validate import validate

__all__ = ["app", "main"]

app.command()(search)
app.command()(retrain)
app.command()(sparsify)
app.command()(report)
app.command()(show)
app.command()(latency)
app.command()(export)
app.command()(throughput)
app.command()(tasks)
app.command()(agents)
app.command("train-supernet")(train_supernet)
app.command("check-agent")(check_agent)
app.command()(benchmark)
app.command()(validate)
app.command()(tabulate)
app.command("train-policy")(train_policy)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process.

    Args:
        arguments: what stands behind `ads-gym`; None: of this process.

    Raises:
        SystemExit: always; 0, or 2 for whatever a user can put right, 130 for Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    anywhere = [argument for argument in given if argument in PROGRAM_OPTIONS]  # may stand behind the command too
    given = [*anywhere, *(argument for argument in given if argument not in PROGRAM_OPTIONS)]
    for stream in (sys.stdout, sys.stderr):  # a name of a file may have bytes that are no text
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # all is imported that is imported before a command runs
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        app(given, prog_name="ads-gym")


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """One line, without the source line that Python would show."""
    print(f"Warning: {one_line(message)}", file=sys.stderr)
