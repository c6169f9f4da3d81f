"""`ads-gym benchmark`: compare agents on equal terms."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ads_gym.cli.options import DataRootOption, DeviceOption

OF_PLAN = {
    *("tasks", "agents", "supernets", "seeds", "evaluations"),
    *("start", "weights", "reward", "cost_weight", "max_macs", "time_limit"),
}


def benchmark(  # noqa: PLR0913 - an option each
    context: typer.Context,
    *,
    tasks: Annotated[str, typer.Option(help="Names or folders, with commas between.")] = "digits-table",
    agents: Annotated[
        str, typer.Option(help="Names, module:name or name?option=value&..., with commas between.")
    ] = "random,local,bayes",
    supernets: Annotated[int, typer.Option(help="Of each named task: NAME@1, NAME@2, ...; 0: the task itself.")] = 10,
    seeds: Annotated[int, typer.Option(help="Runs of each agent on each supernet.")] = 2,
    evaluations: Annotated[int, typer.Option(help="Of each run: the budget.")] = 512,
    start: Annotated[str | None, typer.Option(help="Where agents begin that have such an option.")] = None,
    weights: Annotated[str | None, typer.Option(help="To score with: repaired (default) or inherited.")] = None,
    reward: Annotated[str, typer.Option(help="accuracy, soft, loss, or module:name.")] = "soft",
    cost_weight: Annotated[str, typer.Option(help="A number, or even.")] = "even",
    max_macs: Annotated[float | None, typer.Option(help="Limit on MACs / dense MACs.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds for a run of module:name.")] = 3600.0,
    plan: Annotated[Path | None, typer.Option(help="A file that says all of the above: plan.json of another.")] = None,
    workers: Annotated[int, typer.Option(help="Processes, of one thread each.")] = 1,
    device: DeviceOption = "cpu",
    data_root: DataRootOption = None,
    out: Annotated[Path, typer.Option(help="For results, runs and what is shared.")] = Path("benchmark"),
) -> None:
    """Compare agents: each on every supernet with every seed, at equal budgets.

    Supernets that are missing are trained. If it is interrupted or killed,
    the same command goes on. Exits with 1 where an agent failed.
    """
    from ads_gym.benchmark.page import write
    from ads_gym.benchmark.records import PLAN, Plan
    from ads_gym.benchmark.runner import benchmark as play
    from ads_gym.benchmark.tables import markdown
    from ads_gym.files import resolve

    if plan is not None:
        if given := [name for name in sorted(OF_PLAN) if _is_given(context, name)]:
            raise typer.BadParameter(f"--plan says {', '.join(given)} already: give one of them.")
        planned = PLAN.read(resolve(plan))
    else:
        planned = Plan(
            tuple(filter(None, tasks.split(","))),
            tuple(filter(None, agents.split(","))),
            *(supernets, seeds, evaluations, weights, reward, cost_weight, max_macs, start, time_limit),
        )
    results = play(planned, out, workers=workers, device=device, data_root=data_root)
    print(markdown(results))
    for path in write(results, resolve(out)):
        print(path)
    failed = [each for each in results.missing if each.seed is not None]
    for each in failed:
        print(f"{each.agent} failed on {each.supernet}, seed {each.seed}:\n{each.why}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
