"""Write and read a trained policy: settings as JSON, weights as safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ads_gym import files
from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.problem import Problem
from ads_gym.topology import Topology

FORMAT, VERSION = "ads-gym policy", 1


def write_policy(path: str | Path, problem: Problem, settings: Mapping[str, Any], policy: nn.Module) -> None:
    """Write `path`.json and `path`.safetensors.

    Args:
        path: without an ending.
        problem: whose skip connections the policy decides; they are written with it.
        settings: of the agent, as JSON can hold them.
        policy: whose weights are written.

    Raises:
        StorageError: no space or no permission.
    """
    description, weights = _paths(path)
    topology = {"blocks": list(problem.topology.blocks), "scope": str(problem.topology.scope)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.state_dict().items()}
    text = files.to_json(FORMAT, VERSION, {"topology": topology, **settings})
    files.write_files({weights: save(tensors), description: text + "\n"})


def read_policy(path: str | Path, problem: Problem) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings and weights that `write_policy` wrote.

    Args:
        path: as it was written to.
        problem: for which the policy will be used.

    Raises:
        NotFound, StorageError: one of the files is missing, or may not be read.
        DamagedFile: one of them cannot be used.
        InvalidValue: the policy decides other skip connections.
    """
    description, weights = _paths(path)
    settings = files.read_json(description, FORMAT, VERSION, "policy")
    with files.naming(description, "policy"):
        topology = _topology(settings)
    if topology != problem.topology:
        raise InvalidValue(
            f"the policy {description} decides scope '{topology.scope}' of blocks {topology.blocks}, the environment "
            f"scope '{problem.topology.scope}' of blocks {problem.topology.blocks}: give one with the same."
        )
    try:
        return settings, load(files.read_bytes(weights, "policy"))
    except SafetensorError as error:
        raise DamagedFile(f"{weights} is damaged ({error}).") from error


def _topology(settings: Mapping[str, Any]) -> Topology:
    """Return the topology of a policy; a file that lacks something is a ValueError."""
    try:
        if not isinstance(settings["seed"], int) or not isinstance(settings["options"], dict):
            raise TypeError("seed and options have other types.")
        return Topology(tuple(settings["topology"]["blocks"]), settings["topology"]["scope"])
    except (KeyError, TypeError) as error:
        raise InvalidValue(f"it lacks something: {error}.") from error


def _paths(path: str | Path) -> tuple[Path, Path]:
    stem = files.resolve(path)
    if stem.suffix in {".json", ".safetensors"}:
        stem = stem.with_suffix("")
    return stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".safetensors")
