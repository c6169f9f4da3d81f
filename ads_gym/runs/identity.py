"""The identity of a run: all that its record depends on (problem, agent, their code, options, seed) but its budget."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ads_gym import files, limits
from ads_gym.agents.registry import Kind, LoadedAgent
from ads_gym.errors import InvalidValue, shown
from ads_gym.evaluators.base import provenance
from ads_gym.imports import object_name
from ads_gym.objective import Reward
from ads_gym.problem import Problem
from ads_gym.runs.code_digest import source_digest, stable_name, wheel_version

Parts = Mapping[str, Any]  # as JSON holds it
MAX_NAMED = 5  # differences in one message
DIGESTS = {  # whose values say nothing to people
    "weights",
    "data",
    "settings",
    "evaluator",
    "images",
    "validation images",
    "code",
    "agent's code",
    "reward's code",
    "code that options name",
    "files that options name",
}


@dataclass(frozen=True)
class Identity:
    """The identity of a run.

    Args:
        parts: by name, as JSON holds them: what is solved ("weights", "data", "reward", ...), by whom ("agent",
            "agent's code", ...), and the seed.
        unnamed: "agent" or "reward" -> the object's own name, where no name stands for it in another process.
    """

    parts: Parts
    unnamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Eight hex digits, for the name of a folder."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:8]

    def differences(self, other: Parts) -> list[str]:
        """Return what another run's parts have otherwise, in words."""
        names = [name for name in {**other, **self.parts} if _text(other.get(name)) != _text(self.parts.get(name))]
        return [
            f"other {name}"
            if name in DIGESTS
            else f"{shown(name)[1:-1]} {shown(other.get(name))} (here {shown(self.parts.get(name))})"
            for name in names[:MAX_NAMED]
        ]


def _text(part: Any) -> str:
    """A part as JSON text: there, unlike in Python, 1 is not True."""
    return json.dumps(part, sort_keys=True)


def identify(
    problem: Problem,
    reward: str | Reward,
    player: LoadedAgent,
    agent: Any,
    options: Mapping[str, Any],
    decision: str,
    seed: int,
) -> Identity:
    """Return the identity of a run.

    Args:
        problem: what is solved.
        reward: as it was given: a name, or the function itself.
        player: the agent.
        agent: as it was given: a name, or the class or function itself.
        options: keywords of the agent; of those that name files, the contents count.
        decision: of the environment, where the agent plays one.
        seed: of the agent.

    Raises:
        InvalidValue: an option that JSON cannot hold.
    """
    unnamed: dict[str, str] = {}
    parts: dict[str, Any] = dict(provenance(problem.evaluator))
    parts |= {"scope": str(problem.topology.scope), "cost weight": problem.objective.weight}
    parts["limit in MACs"] = problem.macs_limit
    parts |= code_parts("reward", problem.objective.function, reward, unnamed)
    parts |= code_parts("agent", player.make, agent, unnamed)
    parts["agent's options"] = _plain(options)
    if code := [source_digest(value) for value in _callables(options)]:
        parts["code that options name"] = code
    if contents := {name: _content(name) for name in _file_names(parts["agent's options"])}:
        parts["files that options name"] = contents
    if player.kind is not Kind.OPTIMISER:
        parts |= {"decision": decision, "observation": player.observation, "environments": player.num_envs}
    return Identity(parts | {"seed": seed}, unnamed)


def code_parts(what: str, value: Callable[..., Any], given: object, unnamed: dict[str, str]) -> dict[str, Any]:
    """Name and source of a class or function that was given by a name, or as it is.

    Args:
        what: it is, for the parts' names: "agent".
        value: the class or function.
        given: its name, or itself.
        unnamed: gets an entry where no name stands for it in another process.
    """
    name = given if isinstance(given, str) else stable_name(value)
    if name is None:
        name = unnamed[what] = object_name(value)
    found = {what: name}
    if (digest := source_digest(value, name if ":" in name else None)) is not None:
        found[f"{what}'s code"] = digest
    elif (version := wheel_version(value)) is not None:
        found[f"{what}'s version"] = version
    return found


def _plain(options: Mapping[str, Any]) -> Any:
    """Options as JSON holds them; a class or function by its name, a path as a string, a numpy number as a number."""

    def named(value: object) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        name = str(value) if isinstance(value, Path) else stable_name(value)
        if name is None:
            raise TypeError(f"got {shown(value)}")
        return name

    try:
        return json.loads(json.dumps(dict(options), default=named, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(f"the options of an agent must be numbers, strings and such: {error}.") from error


def _leaves(value: Any) -> Iterator[Any]:
    """All that is in options, in lists and mappings too."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _callables(options: Mapping[str, Any]) -> Iterator[Callable[..., Any]]:
    return filter(callable, _leaves(options))


def _file_names(options: Any) -> Iterator[str]:
    """The files that options name: by paths, by a saved policy without an ending, or by a run folder."""
    for value in _leaves(options):
        if isinstance(value, str):
            yield from filter(_is_file, _paths_of(value))


def _paths_of(value: str) -> tuple[str, ...]:
    return value, f"{value}.json", f"{value}.safetensors", f"{value}.zip", f"{value}/best.json"


def _is_file(value: str) -> bool:
    try:
        return files.resolve(value).is_file()
    except (OSError, ValueError):  # no home folder, or no path
        return False


def _content(value: str) -> str:
    return files.digest(files.resolve(value), "file", limits.MAX_TENSORS_BYTES)
