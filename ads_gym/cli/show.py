"""`ads-gym show`, `tasks` and `agents`: what there is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table


def show(
    file: Annotated[Path, typer.Argument(help="An architecture's JSON file, or a run folder.", metavar="FILE")],
) -> None:
    """Show an architecture: its picture and what it costs."""
    from ads_gym.architecture import Architecture
    from ads_gym.envs import render
    from ads_gym.nets.cost import CostTable
    from ads_gym.runs.folder import RunFolder

    architecture = Architecture.read(RunFolder(file).best if file.is_dir() else file)
    table, mask = CostTable(architecture.config, architecture.scope), architecture.mask
    print(render.ansi(architecture.topology, mask))
    macs, parameters = int(table.macs(mask)), int(table.parameters(mask))
    print(f"MACs        {macs:>15,}   {macs / table.dense_macs:.3f} of the dense network's")
    print(f"parameters  {parameters:>15,}   {parameters / table.dense_parameters:.3f} of the dense network's")
    print(f"relative cost {float(table.relative_cost(mask)):.3f} (0 is the chain, 1 dense), scope {architecture.scope}")


def tasks() -> None:
    """List the tasks: data, network and trained supernet, under a name."""
    from ads_gym.errors import AdsGymError
    from ads_gym.tasks import Task, task_names

    table = _table("task", "blocks", "growth", "images", "where")
    for entry in task_names():
        if not entry.ready:
            table.add_row(entry.name, "", "", "", f"not trained: ads-gym train-supernet --task {entry.name}")
            continue
        try:
            config = Task.load(entry.name).config
        except AdsGymError as error:
            table.add_row(entry.name, "", "", "", str(error))
            continue
        planted = entry.name.startswith("planted-")
        images = "none" if planted else "x".join(map(str, config.image_shape))
        table.add_row(entry.name, ",".join(map(str, config.blocks)), str(config.growth), images, entry.where)
    _print(table)


def agents() -> None:
    """List the agents: ours, and those that other packages registered."""
    from ads_gym.agents.registry import agent_names, find_agent
    from ads_gym.errors import AdsGymError

    table = _table("agent", "what it does")
    for name in agent_names():
        try:
            told = (find_agent(name).make.__doc__ or "").strip().split("\n\n")[0]
        except AdsGymError as error:
            told = str(error)
        table.add_row(name, " ".join(told.split()))
    _print(table)


def _table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == columns[0])
    return table


def _print(table: "Table") -> None:
    from rich.console import Console

    Console(highlight=False).print(table)
