"""`ads-gym check-agent`: check an agent in some short runs."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ads_gym.benchmark.check_agent import AgentReport


def check_agent(
    agent: Annotated[str, typer.Argument(help="A name, or module:name; with options: NAME?KEY=VALUE&KEY=VALUE.")],
    evaluations: Annotated[int, typer.Option(help="Of each run: the budget.")] = 64,
    time_limit: Annotated[float, typer.Option(help="Seconds that the agent may take for each run.")] = 20.0,
) -> None:
    """Check an agent: is it one, does it repeat itself, go on, heed limits?

    It plays some short runs in processes of its own, and is placed among
    agents that come with ads-gym. Exits with 1 where a check failed.
    """
    from ads_gym.benchmark.check_agent import check_agent as check

    report = check(agent, evaluations=evaluations, time_limit=time_limit)
    print_report(report)
    if report.has_failed:
        raise typer.Exit(1)


def print_report(report: "AgentReport") -> None:
    """Print a line for each check, and below them the tracebacks."""
    from rich.console import Console

    from ads_gym.cli.app import harmless, one_line
    from ads_gym.tables import make_table, print_table

    table = make_table(("check", "outcome", "found", "what to do"))
    for each in report.checks:
        table.add_row(each.name, each.outcome, one_line(each.found), each.advice)
    print_table(table, Console(highlight=False))
    for each in report.checks:
        if each.details:
            print(*map(harmless, each.details.splitlines()), sep="\n")
