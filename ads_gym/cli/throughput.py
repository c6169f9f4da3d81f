"""`ads-gym throughput`: masks a second that a task's evaluator scores on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from ads_gym.cli.options import DataRootOption, DeviceOption, TaskOption

if TYPE_CHECKING:
    from rich.table import Table

    from ads_gym.evaluators.throughput import Throughput


def throughput(
    task: TaskOption = "digits",
    masks: Annotated[int, typer.Option(help="Of each kind, in each of three repeats.")] = 64,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
) -> None:
    """Measure how many masks per second a task's evaluator scores, and how near that is to the machine's peak rates.

    Masks are random (half the connections), neighbours of one mask (one or
    two flips), and those of a policy that converges. "work" is the computed
    operations in convolutions and products, as a share of what the masks need
    one by one. "of memory" above 100 % means that caches held what was read.
    """
    from rich.console import Console

    from ads_gym.data.splits import Split
    from ads_gym.evaluators.throughput import measure_throughput
    from ads_gym.tables import print_table
    from ads_gym.tasks import Task

    loaded = Task.load(task, data_root)
    images = loaded.calibration(), loaded.images(Split.VALID)
    measured = measure_throughput(loaded.supernet(), *images, device, masks)
    peak = measured.roofline
    print(
        f"{task}: {measured.decisions} decisions, {measured.valid:,} VALID and {measured.calibration:,} calibration "
        f"images, float32, {measured.device}, CPU threads: {measured.threads}"
    )
    print(
        f"peak rates: matrix product {peak.product / 1e9:,.0f} GFLOP/s, "
        f"convolution {peak.convolution / 1e9:,.0f} GFLOP/s, memory {peak.bandwidth / 1e9:,.0f} GB/s"
    )
    print_table(_table(measured), Console())
    if measured.peak_memory:
        added = f"{measured.added_memory / 2**20:,.0f} MiB"
        print(f"peak memory {measured.peak_memory / 2**20:,.0f} MiB, of which the evaluator and its work: {added}")


def _table(measured: "Throughput") -> "Table":
    from ads_gym.tables import make_table

    columns = ("masks/s (range)", "ms a\nmask", "work", "GFLOP/s", "of\nconvolution", "of\nproduct", "of\nmemory")
    table = make_table(("masks",), columns)
    for timing in measured.timings:
        shares = (
            timing.operations / measured.roofline.convolution,
            timing.operations / measured.roofline.product,
            timing.traffic / measured.roofline.bandwidth,
        )
        table.add_row(
            timing.kind,
            f"{timing.rate:,.1f} ({min(timing.rates):,.1f}-{max(timing.rates):,.1f})",
            f"{1e3 / timing.rate:.2f}",
            f"{timing.work.operations / timing.needed:.0%}",
            f"{timing.operations / 1e9:.1f}",
            *(f"{share:.0%}" for share in shares),
        )
    return table
