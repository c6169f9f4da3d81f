"""`ads-gym bench`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ads_gym.cli.options import DataRootOption, DeviceOption, TaskOption

if TYPE_CHECKING:
    from rich.table import Table

    from ads_gym.evaluators.throughput import Bench


def bench(
    task: TaskOption = "digits",
    masks: Annotated[int, typer.Option(help="Of each kind, in each of three repeats.")] = 64,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
) -> None:
    """Measure how many masks a second a task's evaluator scores here, and how near that is to what the machine can do.

    Masks at random (half the connections), neighbours of one mask (one or two
    flips), and those of a policy that converges. "work" is what was computed
    in convolutions and products, as a share of what the masks would take one
    by one. "of memory" above 100 % means that caches held what was read.
    """
    from rich.console import Console

    from ads_gym.evaluators.throughput import measure_evaluator
    from ads_gym.tables import print_table
    from ads_gym.tasks import Task

    found = measure_evaluator(Task.load(task, data_root), device, masks)
    machine = found.machine
    print(
        f"{task}: {found.decisions} decisions, {found.valid:,} VALID and {found.calibration:,} calibration images, "
        f"float32, {found.device}, CPU threads: {found.threads}"
    )
    print(
        f"the machine's best: matrix product {machine.product / 1e9:,.0f} GFLOP/s, "
        f"convolution {machine.convolution / 1e9:,.0f} GFLOP/s, memory {machine.bandwidth / 1e9:,.0f} GB/s"
    )
    print_table(_table(found), Console())
    if found.peak:
        print(f"memory at most {found.peak / 2**20:,.0f} MiB; the evaluator and its work: {found.growth / 2**20:,.0f}")


def _table(found: "Bench") -> "Table":
    from ads_gym.tables import make_table

    columns = ("masks/s (range)", "ms a\nmask", "work", "GFLOP/s", "of\nconvolution", "of\nproduct", "of\nmemory")
    table = make_table(("masks",), columns)
    for pace in found.paces:
        shares = (
            pace.operations / found.machine.convolution,
            pace.operations / found.machine.product,
            pace.traffic / found.machine.bandwidth,
        )
        table.add_row(
            pace.kind,
            f"{pace.rate:,.1f} ({min(pace.rates):,.1f}-{max(pace.rates):,.1f})",
            f"{1e3 / pace.rate:.2f}",
            f"{pace.work.operations / pace.needed:.0%}",
            f"{pace.operations / 1e9:.1f}",
            *(f"{share:.0%}" for share in shares),
        )
    return table
