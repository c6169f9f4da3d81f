"""`ads-gym search`: let an agent search, and print the result."""

from pathlib import Path
from typing import Annotated

import typer

from ads_gym.cli.options import AgentOption, DataRootOption, DeviceOption, TaskOption


def search(  # noqa: PLR0913 - an option each
    *,
    task: TaskOption = "digits",
    agent: AgentOption = "bayes",
    agent_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of the agent; may be given again.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Where the agent begins: residual, magnitude, saliency, gates or an architecture's path."),
    ] = None,
    evaluations: Annotated[int, typer.Option(help="Networks to evaluate: the budget.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the agent.")] = 0,
    cost_weight: Annotated[
        str, typer.Option(help="What relative cost 1 takes off the reward: 0 to 100, or even (dense and chain equal).")
    ] = "even",
    reward: Annotated[
        str, typer.Option(help="accuracy, soft, loss, or module:name of a function of metrics.")
    ] = "soft",
    max_macs: Annotated[float | None, typer.Option(help="Limit on MACs / dense MACs.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="To score with: repaired (solved again in closed form; default), or inherited (faster)."),
    ] = None,
    scope: Annotated[
        str, typer.Option(help="Connections to decide: layers, or all (transitions and classifier too).")
    ] = ("layers"),
    decision: Annotated[
        str | None, typer.Option(help="What a step of a policy decides: connection (default), layer or network.")
    ] = None,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    run: Annotated[Path | None, typer.Option(help="The run folder; default: runs/TASK-AGENT-sSEED-DIGEST.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Play a run again; the old folder is renamed.")] = False,
    store: Annotated[Path | None, typer.Option(help="A file of evaluations, shared by several runs.")] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Seconds that the agent may take, in a process of its own; then the same command goes on."),
    ] = None,
) -> None:
    """Let an agent search for the best sparse network, and print what it found.

    If it is interrupted or killed, the same command goes on. With more
    --evaluations it extends the run; a run that is over is shown again.
    Where weights, data, the agent's code or an option changed, another run
    begins.
    """
    from ads_gym.agents.registry import parse_options
    from ads_gym.runs.pictures import print_result
    from ads_gym.runs.runner import search as play

    result = play(
        task,
        agent,
        evaluations,
        seed=seed,
        cost_weight=cost_weight,
        reward=reward,
        max_macs=max_macs,
        weights=weights,
        scope=scope,
        decision=decision,
        device=device,
        data_root=data_root,
        run=run,
        restart=restart,
        store=store,
        time_limit=time_limit,
        agent_options=parse_options(agent_option or []) | ({} if start is None else {"start": start}),
    )
    print_result(result)
