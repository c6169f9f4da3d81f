"""`ads-gym tabulate`: score every architecture of a small task, so that searches only look them up."""

from typing import TYPE_CHECKING

from ads_gym.cli.options import DataRootOption, DeviceOption, TaskOption

if TYPE_CHECKING:
    from ads_gym.tasks import SupernetTask


def tabulate(
    *, task: TaskOption = "digits-table", device: DeviceOption = "auto", data_root: DataRootOption = None
) -> None:
    """Score every architecture of a task of at most 20 skip connections.

    The metrics, with inherited and with repaired weights, are kept beside
    the task, and whoever searches it looks them up. If it is killed, the
    same command goes on.
    """
    from ads_gym.errors import InvalidValue
    from ads_gym.tasks import SupernetTask, Task

    found = Task.load(task, data_root)
    if not isinstance(found, SupernetTask):
        raise InvalidValue(f"task {found.name!r} has no network whose architectures could be scored.")
    made = score_all(found, device)
    print(f"table   {made.files.table}")


def score_all(task: "SupernetTask", device: str) -> "SupernetTask":
    """Make the table of a task, with lines about it on stderr."""
    from ads_gym.runs.step_lines import StepLines
    from ads_gym.tabulation import tabulate

    with StepLines(True).long("scoring all architectures", "masks") as step:
        return tabulate(task, step.update, device)
