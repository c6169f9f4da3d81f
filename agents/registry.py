"""Agents by name, by "module:name", or as they are. Whoever wants to be found by name registers an entry point; a name
may have a colon in it too ("sb3:ppo"), and comes before a module of that name.

An agent comes in by one of two doors, and runs until `BudgetExhausted` comes out of a step or a reset:

1. A class with `learn`: it is built as `Agent(env, seed=seed, **options)`, then `learn(total_timesteps)` is called.
2. Any other callable: `play(env, seed, **options)`, which steps the env as it likes.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from ads_gym.errors import InvalidValue, MissingPackage, NotFound, unknown_name
from ads_gym.imports import import_object, object_name

GROUP = "ads_gym.agents"  # of entry points: our own agents are registered in it as anyone's


class Agent(Protocol):
    """What comes in by the first door.

    Either door may carry two attributes: `num_envs = n` asks for a Gymnasium vector env of n instead of a single env,
    `observation = "flat"` for that observation.
    """

    def __init__(self, env: Any, *, seed: int) -> None:
        """Takes the env, the seed of all that it draws, and its options as keywords."""

    def learn(self, total_timesteps: int) -> Any:
        """Plays until `BudgetExhausted` comes out of the env; `total_timesteps` is more steps than the budget has."""


@dataclass(frozen=True)
class LoadedAgent:
    """An agent, and what it asked for."""

    name: str  # a registered name, or "module:name"
    make: Callable[..., Any]  # what came in by one of the doors
    num_envs: int | None  # environments side by side; None: a single one
    observation: str | None  # None: whatever the environment shows by default

    @property
    def learns(self) -> bool:
        """Whether it came in by the first door."""
        return inspect.isclass(self.make) and callable(getattr(self.make, "learn", None))

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Finds options that the agent does not have before anything is paid for.

        Raises:
            UnknownName, InvalidValue: such an option, or one that it needs and was not given.
        """
        try:
            signature = inspect.signature(self.make)
        except (TypeError, ValueError):  # a callable that does not tell
            return
        takes = signature.parameters.values()
        known = [p.name for p in takes if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)][1:]
        known = [name for name in known if name != "seed"]
        if not any(p.kind is p.VAR_KEYWORD for p in takes):
            for option in options:
                if option not in known:
                    raise unknown_name(f"option of agent {self.name}:", option, known or ["none"])
        try:
            signature.bind(*self._arguments(None, 0), **self._keywords(0, options))
        except TypeError as error:
            raise InvalidValue(f"agent {self.name} cannot be started with options {dict(options)}: {error}.") from error

    def run(self, env: Any, seed: int, options: Mapping[str, Any], total_timesteps: int) -> None:
        """Lets it play in `env` until it ends, by `BudgetExhausted` if it does as it should."""
        made = self.make(*self._arguments(env, seed), **self._keywords(seed, options))
        if self.learns:
            made.learn(total_timesteps)

    def _arguments(self, env: Any, seed: int) -> tuple[Any, ...]:
        return (env,) if self.learns else (env, seed)

    def _keywords(self, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"seed": seed, **options} if self.learns else dict(options)


def agent_names() -> list[str]:
    """The names of all registered agents."""
    return sorted(entry_points(group=GROUP).names)


def find_agent(agent: Any) -> LoadedAgent:
    """The agent with that name, at that "module:name", or that object itself.

    Raises:
        UnknownName, NotFound, InvalidValue: nothing of that name, or nothing that could play.
        MissingPackage: a registered agent that does not import.
    """
    if not isinstance(agent, str):
        made, name = agent, object_name(agent)
    elif ":" in agent and agent not in agent_names():
        made, name = _import(agent), agent
    else:
        made, name = _load(_registered(agent)), agent
    if not callable(made):
        raise InvalidValue(
            f"an agent is a class with `learn` or a function play(env, seed), given by itself, as 'module:name' or by "
            f"name ({', '.join(agent_names())}); got {agent!r:.80}."
        )
    num_envs = getattr(made, "num_envs", None)
    if num_envs is not None and (not isinstance(num_envs, int) or isinstance(num_envs, bool) or num_envs < 1):
        raise InvalidValue(f"num_envs of agent {name} must be a whole number of at least 1, got {num_envs!r}.")
    observation = getattr(made, "observation", None)
    return LoadedAgent(name, made, num_envs, observation if isinstance(observation, str) else None)


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Options from "key=value" strings; a value that is JSON (3, 0.5, true, null, [1, 2]) is read as that.

    Raises:
        InvalidValue: no "=" in it, or no name before it, or a name given twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise InvalidValue(f"an agent's option looks like key=value, got {pair!r}.")
        if key in options:
            raise InvalidValue(f"option {key!r} is given twice.")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def _import(spec: str) -> Any:
    """What "module:name" names."""
    try:
        return import_object(spec, "agent")
    except NotFound as error:
        if any(name.startswith(spec.partition(":")[0] + ":") for name in agent_names()):  # "sb3:poo"
            raise unknown_name("agent", spec, agent_names()) from error
        raise


def _registered(name: str) -> EntryPoint:
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if not found:
        raise unknown_name("agent", name, agent_names())
    if len(found) > 1:
        raise InvalidValue(f"agent {name!r} is registered more than once; write one of {', '.join(sorted(found))}.")
    return next(iter(found.values()))


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise MissingPackage(
            f"agent {entry.name!r} ({entry.value}) does not import: {error}. Install what it needs, or it anew."
        ) from error
