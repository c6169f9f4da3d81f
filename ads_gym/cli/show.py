"""`ads-gym show`, `tasks` and `agents`: show an architecture, list tasks and agents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table


def show(
    file: Annotated[
        Path, typer.Argument(help="An architecture's JSON file, a saved network, or a run folder.", metavar="FILE")
    ],
) -> None:
    """Show an architecture: its picture and what it costs."""
    from ads_gym.architecture import Architecture, find_architecture
    from ads_gym.envs import render
    from ads_gym.nets.cost import CostTable, architecture_cost

    architecture = Architecture.read(find_architecture(file))
    config, mask = architecture.config, architecture.mask
    print(render.ansi(architecture.topology, mask))
    if architecture.reads is not None:
        print("channels that each layer reads of each node before it, and last the block's output:")
        reads = iter(architecture.reads)
        for number, layers in enumerate(config.blocks, start=1):
            print(f"block {number}:", *(" ".join(map(str, next(reads))) for _ in range(layers + 1)), sep="\n")
    if config.widths is not None:
        widths = (" ".join(map(str, block)) for block in config.bottleneck_channels)
        print(
            f"bottleneck channels of each layer, {config.bn_size * config.growth} in the dense network's:",
            *widths,
            sep="\n",
        )
    costs = zip(
        ("MACs", "parameters"), architecture_cost(architecture), architecture_cost(architecture.dense), strict=True
    )
    for name, cost, dense in costs:
        print(f"{name:<11} {cost:>15,}   {cost / dense:.3f} of the dense network's")
    relative = float(CostTable(config, architecture.scope).relative_cost(mask))
    print(f"relative cost {relative:.3f} (0 is the chain, 1 every connection), scope {architecture.scope}")


def tasks() -> None:
    """List the tasks: data, network and trained supernet, under a name."""
    from ads_gym.errors import AdsGymError
    from ads_gym.tables import make_table
    from ads_gym.tasks import PLANTED, Task, task_names
    from ads_gym.tasks.presets import PRESETS, split_name

    table = make_table(("task", "blocks", "growth", "images", "where"))
    for entry in task_names():
        if not entry.ready:
            preset = PRESETS.get(split_name(entry.name)[0])
            blocks, growth = ("", "") if preset is None else (",".join(map(str, preset.blocks)), str(preset.growth))
            why = "not trained" if entry.name in PRESETS else f"weights are missing in {entry.where}"
            table.add_row(entry.name, blocks, growth, "", why)
            continue
        try:
            config = Task.load(entry.name).config
        except AdsGymError as error:
            table.add_row(entry.name, "", "", "", str(error))
            continue
        images = "none" if entry.name in PLANTED else "x".join(map(str, config.image_shape))
        table.add_row(entry.name, ",".join(map(str, config.blocks)), str(config.growth), images, entry.where)
    _print(table)
    print("Train one: ads-gym train-supernet --task NAME; or with another seed: NAME@1, NAME@2, ...")


def agents() -> None:
    """List the agents: ours, and those that other packages registered."""
    from ads_gym.agents.registry import agent_names, find_agent
    from ads_gym.errors import AdsGymError
    from ads_gym.tables import make_table

    table = make_table(("agent", "kind", "needs", "what it does", "source"))
    for name in agent_names():
        try:
            agent = find_agent(name)
            told = str(agent.kind), str(agent.needs), (agent.make.__doc__ or "").strip().split("\n\n")[0], agent.source
        except AdsGymError as error:
            told = "", "", str(error), ""
        table.add_row(name, *(" ".join(each.split()) for each in told))
    _print(table)


def _print(table: "Table") -> None:
    from rich.console import Console

    from ads_gym.tables import print_table

    print_table(table, Console(highlight=False))
