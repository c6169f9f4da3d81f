"""What a benchmark is of, and what came out of it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from ads_gym import limits
from ads_gym.records import Count, Format, JsonObject, Name, Number, Text, record

MAX_LINE = 500  # characters of a line in an error
Many = Annotated[int, Field(ge=1, le=1000)]


@record
class Plan:
    """What is played, and how it is scored."""

    tasks: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]  # names or folders
    agents: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]  # see `find_entrant`
    supernets: Annotated[int, Field(ge=0, le=1000)] = 10  # of each named task: NAME@1, NAME@2, ...; 0: the task itself
    seeds: Many = 2  # of each agent on each supernet
    evaluations: Annotated[int, Field(ge=1, le=limits.MAX_EVALUATIONS)] = 512
    weights: Name | None = None  # "repaired", "inherited", or None: as the task has it
    reward: Name = "soft"
    cost_weight: Name = "even"  # or a number
    max_macs: Number | None = None
    start: Name | None = None  # of agents that have such an option
    time_limit: Annotated[float, Field(gt=0, le=1e9)] = 3600.0  # wall seconds for a run of "module:name"


@record
class Supernet:
    """A network that agents searched, and what is known of it without them."""

    task: Name  # of the plan
    name: Name  # of the supernet
    is_copied: bool  # with its weights into the folder of the results; a planted task has none
    random_mean: Number  # objective of random masks
    random_sd: Number
    optimum: Number | None  # the best objective there is, where all are known
    evaluation_seconds: Number  # of one, on one thread, nothing looked up


@record
class Played:
    """One agent's run on one supernet."""

    supernet: Name
    agent: Name
    seed: Count
    improved: Annotated[tuple[tuple[Count, Number], ...], Field(min_length=1, max_length=limits.MAX_EVALUATIONS)]
    mask: Text  # its best, in hex
    evaluations: Count
    charged: Count
    hypervolume: Number  # of all that it evaluated: relative cost against reward
    agent_seconds: Number  # of CPU, without evaluations and what is charged

    @property
    def best(self) -> float:
        """The objective of its best mask. (`improved`: what was spent when the best objective rose, and to what.)"""
        return self.improved[-1][1]


@record
class Entry:
    """An agent that played."""

    agent: Name  # of the plan
    reads: Name  # "nothing", "features" or "network", besides masks and scores
    is_apart: bool  # whether it played in a process of its own, which saw the game through a pipe


@record
class Missing:
    """A run that there is not."""

    supernet: Name
    agent: Name
    seed: Count | None  # None: all of them, for the task lacks what the agent needs
    why: Text


def missing(supernet: str, agent: str, seed: int | None, why: str) -> Missing:
    """Return the record of a run that there is not; a long traceback is told from its end."""
    lines = "\n".join(line[:MAX_LINE] for line in why.strip().splitlines())
    return Missing(supernet, agent, seed, lines[-limits.MAX_TEXT :])


def _distinct(supernets: tuple[Supernet, ...]) -> tuple[Supernet, ...]:
    if len({each.name for each in supernets}) < len(supernets):
        raise ValueError("a supernet is there twice")
    return supernets


@record
class Results:
    """A benchmark that was played to its end."""

    plan: Plan
    entries: Annotated[tuple[Entry, ...], Field(max_length=100)]
    supernets: Annotated[tuple[Supernet, ...], Field(max_length=10_000), AfterValidator(_distinct)]
    played: Annotated[tuple[Played, ...], Field(max_length=1_000_000)]
    missing: Annotated[tuple[Missing, ...], Field(max_length=1_000_000)]
    definition: JsonObject  # by which scores and intervals are told: see `statistics.DEFINITION`
    versions: JsonObject
    began: Name
    ended: Name


PLAN = Format("ads-gym benchmark plan", 1, "plan of a benchmark", Plan)
RESULTS = Format("ads-gym benchmark", 1, "results of a benchmark", Results)
