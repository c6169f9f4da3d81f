"""Write and read a trained policy: settings as JSON, weights as safetensors."""

from pathlib import Path

from torch import Tensor, nn

from ads_gym import files
from ads_gym.errors import InvalidValue
from ads_gym.limits import MAX_POLICY_BYTES
from ads_gym.nets.tensorfile import read_safetensors, to_safetensors
from ads_gym.records import Format, JsonObject, Seed, record
from ads_gym.topology import Topology


@record
class PolicyRecord:
    """What is written of a policy beside its weights."""

    topology: Topology  # the skip connections that it decides
    seed: Seed
    options: JsonObject  # of the agent


POLICY = Format("ads-gym policy", 1, "policy", PolicyRecord)


def write_policy(path: str | Path, settings: PolicyRecord, policy: nn.Module) -> None:
    """Write `path`.json and `path`.safetensors.

    Args:
        path: without an ending.
        settings: of the agent.
        policy: whose weights are written.

    Raises:
        StorageError: no space or no permission.
    """
    description, weights = _paths(path)
    files.write_files({weights: to_safetensors(policy.state_dict()), description: POLICY.text(settings) + "\n"})


def read_policy(path: str | Path, topology: Topology) -> tuple[PolicyRecord, dict[str, Tensor]]:
    """Return the settings and weights that `write_policy` wrote.

    Args:
        path: as it was written to.
        topology: for which the policy will be used.

    Raises:
        NotFound, StorageError: one of the files is missing, or may not be read.
        DamagedFile: one of them cannot be used.
        InvalidValue: the policy decides other skip connections.
    """
    description, weights = _paths(path)
    stored = POLICY.read(description)
    if stored.topology != topology:
        raise InvalidValue(
            f"the policy {description} decides scope '{stored.topology.scope}' of blocks {stored.topology.blocks}, the "
            f"environment scope '{topology.scope}' of blocks {topology.blocks}: give one with the same."
        )
    return stored, read_safetensors(weights, "policy", MAX_POLICY_BYTES)


def _paths(path: str | Path) -> tuple[Path, Path]:
    stem = files.resolve(path)
    if stem.suffix in {".json", ".safetensors"}:
        stem = stem.with_suffix("")
    return stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".safetensors")
