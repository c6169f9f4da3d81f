"""Find agents: by a registered name, by "module:name", or as they are.

An agent is registered by an entry point in the group "ads_gym.agents", ours like anyone's. A registered name may have a
colon in it ("sb3:ppo"), and comes before a module of that name.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ads_gym.agents.base import Needs
from ads_gym.errors import DamagedFile, InvalidValue, MissingPackage, NotFound, UnknownName, shown, unknown_name
from ads_gym.imports import import_object, object_name
from ads_gym.limits import MAX_OPTION
from ads_gym.problem import Problem
from ads_gym.records import Environments, check, parse_json

GROUP = "ads_gym.agents"  # of entry points
NEEDED = {Needs.FEATURES: "features of a trained network", Needs.NETWORK: "a trained network"}
RENAMED = {
    "reinforce": "recurrent (its policy by itself) and bayes (its Gaussian process by itself)",
}


class Kind(StrEnum):
    """How a search runs an agent."""

    POLICY = "policy"  # a class with `learn`: made as cls(env, seed=seed, **options), then learn(total_timesteps)
    OPTIMISER = "optimiser"  # a class with `ask` and `tell`: made as cls(problem, seed=seed, **options), then driven
    FUNCTION = "function"  # any other callable: play(env, seed, **options), which steps the environment itself


@dataclass(frozen=True)
class LoadedAgent:
    """An agent, and the environment that it asks for."""

    name: str  # registered, or "module:name"
    make: Callable[..., Any]  # the class or the function
    kind: Kind
    num_envs: int | None  # of a vector environment; None: a single environment
    observation: str | None  # None: the environment's default
    needs: Needs = Needs.NOTHING
    source: str = ""  # where it is published

    def check_problem(self, problem: Problem) -> None:
        """Check that a problem has what the agent needs.

        Raises:
            InvalidValue: it does not.
        """
        if self.needs is not Needs.NOTHING and problem.network is None:
            raise InvalidValue(
                f"agent {self.name} reads {NEEDED[self.needs]}, and {problem.name} has none: use another agent, or a "
                "task that was trained."
            )

    def has_option(self, name: str) -> bool:
        """Whether the agent names an option of its own so; what it passes on to a library does not count."""
        try:
            return name in inspect.signature(self.make).parameters or name in self._config
        except (TypeError, ValueError):  # a callable without a signature
            return False

    @property
    def _config(self) -> list[str]:
        """Options that are fields of a record `Config` of the agent's."""
        config = _attribute(self.make, "Config")
        return [field.name for field in fields(config)] if is_dataclass(config) else []

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Check the names of options before anything is evaluated.

        Raises:
            UnknownName, InvalidValue: an option that the agent does not have, or a required one that is missing.
        """
        try:
            signature = inspect.signature(self.make)
        except (TypeError, ValueError):  # a callable without a signature
            return
        parameters = signature.parameters.values()
        known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)][1:]
        known = [*(name for name in known if name != "seed"), *self._config]
        if self._config or not any(p.kind is p.VAR_KEYWORD for p in parameters):
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
        """Return a policy for the environment `target`, or an optimiser for the problem `target`."""
        return self.make(target, seed=seed, **options)


def agent_names() -> list[str]:
    """Return the names of all registered agents."""
    return sorted(entry_points(group=GROUP).names)


def find_agent(agent: Any) -> LoadedAgent:
    """Return the agent of a registered name or of "module:name", or the given class or function.

    Raises:
        UnknownName, NotFound, InvalidValue: no agent of that name, or an object that is none.
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
            "an agent is a class with `learn`, a class with `ask` and `tell`, or a function play(env, seed), given as "
            f"it is, as 'module:name' or by name ({', '.join(agent_names())}); got {shown(agent)}."
        )
    kind = _kind(made)
    needs, source, observation = (_text(made, each) for each in ("needs", "source", "observation"))
    with_env = (None, None) if kind is Kind.OPTIMISER else (_num_envs(made, name), observation)
    return LoadedAgent(name, made, kind, *with_env, Needs(needs or Needs.NOTHING), source or "")


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Return options from "key=value" strings; a value that is JSON (3, 0.5, true, null, [1, 2]) is read as JSON.

    Raises:
        InvalidValue: a pair without "=" or without a name, or a name given twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise InvalidValue(f"an agent's option looks like key=value, got {shown(pair)}.")
        if len(value) > MAX_OPTION:
            raise InvalidValue(f"option {key!r} has {len(value):,} characters, and {MAX_OPTION:,} are the most.")
        if key in options:
            raise InvalidValue(f"option {key!r} is given twice.")
        try:
            options[key] = parse_json(value)
        except DamagedFile:
            options[key] = value
    return options


def _kind(made: Callable[..., Any]) -> Kind:
    """Return the kind of a class or function; of a partial, that of what it calls."""
    while isinstance(made, partial):
        made = made.func
    if not inspect.isclass(made):
        return Kind.FUNCTION
    methods = {name for name in ("learn", "ask", "tell") if callable(getattr(made, name, None))}
    if "learn" in methods:
        return Kind.POLICY
    return Kind.OPTIMISER if {"ask", "tell"} <= methods else Kind.FUNCTION


def _attribute(made: Any, name: str) -> Any:
    """Return an attribute of a class or function, or of what a partial calls; None where there is none."""
    while isinstance(made, partial) and not hasattr(made, name):
        made = made.func
    return getattr(made, name, None)


def _text(made: Any, name: str) -> str | None:
    """Return an attribute that is text."""
    found = _attribute(made, name)
    return found if isinstance(found, str) else None


def _num_envs(made: Any, name: str) -> int | None:
    count = _attribute(made, "num_envs")
    if count is None:
        return None
    return int(check(count, Environments, f"num_envs of agent {name}"))


def _import(spec: str) -> Any:
    """Import "module:name"."""
    try:
        return import_object(spec, "agent")
    except NotFound as error:
        if any(name.startswith(spec.partition(":")[0] + ":") for name in agent_names()):  # "sb3:poo"
            raise unknown_name("agent", spec, agent_names()) from error
        raise


def _registered(name: str) -> EntryPoint:
    """Return the entry point of a name."""
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if not found and name in RENAMED:
        raise UnknownName(f"there is no agent {name!r} any more. What it did is done by {RENAMED[name]}.")
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
