"""Who plays in a benchmark: an agent, with options of its own."""

from dataclasses import dataclass
from typing import Any

from ads_gym.agents.registry import LoadedAgent, find_agent, parse_options


@dataclass(frozen=True)
class Entrant:
    """An agent and its options."""

    agent: LoadedAgent
    options: dict[str, Any]


def find_entrant(text: str) -> Entrant:
    """Return who is meant by "bayes", "module:name", or "evolution?population=16&flips=2".

    Raises:
        AdsGymError: no such agent, or options that it has not.
    """
    name, mark, options = text.partition("?")
    found = Entrant(find_agent(name), parse_options(options.split("&")) if mark else {})
    found.agent.check_options(found.options)
    return found
