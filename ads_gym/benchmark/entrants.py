"""Who plays in a benchmark: an agent, with options of its own."""

from dataclasses import dataclass
from typing import Any

from ads_gym.agents.base import Needs
from ads_gym.agents.registry import LoadedAgent, agent_names, find_agent, parse_options
from ads_gym.benchmark.records import Entry


@dataclass(frozen=True)
class Entrant:
    """An agent and its options."""

    agent: LoadedAgent
    options: dict[str, Any]

    @property
    def is_stranger(self) -> bool:
        """Whether it is no registered agent: it plays in a process of its own, unless it needs the trained network."""
        return self.agent.name not in agent_names() and self.agent.needs is not Needs.NETWORK


def find_entrant(text: str) -> Entrant:
    """Return who is meant by "bayes", "module:name", or "evolution?population=16&flips=2".

    Raises:
        AdsGymError: no such agent, or options that it has not.
    """
    name, mark, options = text.partition("?")
    found = Entrant(find_agent(name), parse_options(options.split("&")) if mark else {})
    found.agent.check_options(found.options)
    return found


def entry_of(text: str) -> Entry:
    """Return what results say of an entrant."""
    entrant = find_entrant(text)
    return Entry(text, str(entrant.agent.needs), entrant.is_stranger)
