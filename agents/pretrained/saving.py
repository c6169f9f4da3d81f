"""Write and read a policy that plays on any network: what it is as JSON, weights as safetensors."""

from pathlib import Path

from ads_gym import files
from ads_gym.agents.pretrained.network import NETWORKS, PolicyNetwork
from ads_gym.agents.pretrained.training import TrainingSettings
from ads_gym.limits import MAX_POLICY_BYTES
from ads_gym.nets.tensorfile import load_weights, read_safetensors, to_safetensors
from ads_gym.records import Digest, Format, Text, record

SHIPPED = Path(__file__).parent / "policy"


@record
class PretrainedRecord:
    """What is written of a policy beside its weights."""

    settings: TrainingSettings
    weights: tuple[Text, ...]  # with which the supernets' architectures were scored
    supernets: tuple[Text, ...]  # that it was trained on
    pool: Digest | None = None  # of the definition that these are of


PRETRAINED = Format("ads-gym pretrained policy", 1, "pretrained policy", PretrainedRecord)


def write_pretrained(path: str | Path, written: PretrainedRecord, network: PolicyNetwork) -> None:
    """Write `path`.json and `path`.safetensors.

    Raises:
        StorageError: no space or no permission.
    """
    description, weights = policy_paths(path)
    files.write_files({weights: to_safetensors(network.state_dict()), description: PRETRAINED.text(written) + "\n"})


def read_pretrained(path: str | Path | None) -> tuple[PretrainedRecord, PolicyNetwork]:
    """Return what `write_pretrained` wrote; None: what ships with ads-gym.

    Raises:
        NotFound, StorageError: one of the files is missing, or may not be read.
        DamagedFile: one of them cannot be used.
    """
    description, weights = policy_paths(SHIPPED if path is None else path)
    written = PRETRAINED.read(description)
    network = NETWORKS[written.settings.kind](written.settings.seed)
    load_weights(network, read_safetensors(weights, "pretrained policy", MAX_POLICY_BYTES), weights)
    return written, network.eval()


def policy_paths(path: str | Path) -> tuple[Path, Path]:
    """The files of a policy, from its path with or without an ending."""
    stem = files.resolve(path)
    if stem.suffix in {".json", ".safetensors"}:
        stem = stem.with_suffix("")
    return stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".safetensors")
