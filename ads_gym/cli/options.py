"""Options that several commands have, and how their values are completed."""

from pathlib import Path
from typing import Annotated

import typer


def _task_names(incomplete: str) -> list[str]:
    from ads_gym.tasks import task_names

    return [entry.name for entry in task_names() if entry.name.startswith(incomplete)]


def _agent_names(incomplete: str) -> list[str]:
    from ads_gym.agents.registry import agent_names

    return [name for name in agent_names() if name.startswith(incomplete)]


def _source_names(incomplete: str) -> list[str]:
    from ads_gym.tasks.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


TaskOption = Annotated[
    str, typer.Option("--task", help="A name (see ads-gym tasks) or a folder.", autocompletion=_task_names)
]
AgentOption = Annotated[
    str,
    typer.Option("--agent", help="A name (see ads-gym agents) or module:name.", autocompletion=_agent_names),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="A name, as ads-gym tasks lists them; digits@3: the same, trained with seed 3.",
        autocompletion=_source_names,
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
DataRootOption = Annotated[
    Path | None,
    typer.Option("--data-root", help="Where data sets lie; default: $ADS_GYM_DATA."),
]
