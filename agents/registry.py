"""Agents by name, by "module:name", or as they are.

Whoever wants an agent to be found by name registers an entry point. A name may have a colon in it too ("sb3:ppo"), and
goes before a module of that name. What an agent is: `ads_gym.agents.base`.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np

from ads_gym.errors import InvalidValue, MissingPackage, NotFound, UnknownName, unknown_name
from ads_gym.imports import import_object, object_name

GROUP = "ads_gym.agents"  # of entry points: our own agents are registered in it as anyone's
SUCCESSORS = {"reinforce": "recurrent (the policy), bayes (the Gaussian process) and hybrid (both)"}


class Kind(StrEnum):
    """How an agent is driven."""

    POLICY = "policy"  # a class with `learn`
    OPTIMISER = "optimiser"  # a class with `ask` and `tell`
    FUNCTION = "function"  # any other callable, which steps the environment itself


@dataclass(frozen=True)
class LoadedAgent:
    """An agent and the attributes that say what it needs.

    Args:
        name: a registered name, or "module:name".
        make: the class or function.
        num_envs: environments side by side; None: a single one.
        observation: None: the environment's default.
    """

    name: str
    make: Callable[..., Any]
    num_envs: int | None = None
    observation: str | None = None

    @property
    def kind(self) -> Kind:
        """How it is driven."""
        if inspect.isclass(self.make):
            if callable(getattr(self.make, "learn", None)):
                return Kind.POLICY
            if all(callable(getattr(self.make, name, None)) for name in ("ask", "tell")):
                return Kind.OPTIMISER
        return Kind.FUNCTION

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Find options that the agent does not have before anything is paid for.

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
            if self.kind is Kind.FUNCTION:
                signature.bind(None, 0, **options)
            else:
                signature.bind(None, seed=0, **options)
        except TypeError as error:
            raise InvalidValue(f"agent {self.name} cannot be started with options {dict(options)}: {error}.") from error

    def build(self, target: Any, seed: int, options: Mapping[str, Any]) -> Any:
        """Build a policy for an environment, or an optimiser for a problem."""
        return self.make(target, seed=seed, **options)


def agent_names() -> list[str]:
    """Return the names of all registered agents."""
    return sorted(entry_points(group=GROUP).names)


def find_agent(agent: Any) -> LoadedAgent:
    """Return the agent with that name, at that "module:name", or that object itself.

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
            "an agent is a class with `learn`, a class with `ask` and `tell`, or a function play(env, seed), given by "
            f"itself, as 'module:name' or by name ({', '.join(agent_names())}); got {agent!r:.80}."
        )
    num_envs = getattr(made, "num_envs", None)
    is_whole = isinstance(num_envs, int | np.integer) and not isinstance(num_envs, bool)
    if num_envs is not None and not (is_whole and num_envs >= 1):
        raise InvalidValue(f"num_envs of agent {name} must be a whole number of at least 1, got {num_envs!r}.")
    observation = getattr(made, "observation", None)
    return LoadedAgent(name, made, None if num_envs is None else int(num_envs), observation if isinstance(observation, str) else None)


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Return options from "key=value" strings; a value that is JSON (3, 0.5, true, null, [1, 2]) is read as that.

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
        if name in SUCCESSORS:
            raise UnknownName(f"there is no agent {name!r} any more. Its successors are {SUCCESSORS[name]}.")
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
