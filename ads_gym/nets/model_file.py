"""A trained DenseNet by the name of its file, or by that of torchvision's published weights."""

from pathlib import Path
from typing import NamedTuple

from ads_gym.errors import NotFound, unknown_name
from ads_gym.files import is_file, resolve
from ads_gym.imports import import_package
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.from_torchvision import from_state_dict, from_torchvision
from ads_gym.nets.tensorfile import read_checkpoint

PUBLISHED = ("densenet121", "densenet161", "densenet169", "densenet201")


class Loaded(NamedTuple):
    """A dense network, and where its weights are from."""

    network: DenseNet
    source: str  # for people


def load_densenet(model: str, image_size: tuple[int, int]) -> Loaded:
    """Load a DenseNet of torchvision's; nothing in a file is run.

    Args:
        model: a file: a state dict (.pt, .pth, .safetensors), or a checkpoint with one in it; else one of `PUBLISHED`,
            whose weights torchvision downloads once.
        image_size: (height, width) of the images that it will read, pixels.

    Raises:
        NotFound, StorageError: no such file, no such name, or weights that cannot be downloaded.
        DamagedFile, InvalidValue: a file that cannot be used, or another network.
    """
    path = resolve(model)
    if is_file(path):
        found = read_checkpoint(path)
        source = str(path) if found.entry is None else f"{found.entry!r} of {path}"
        return Loaded(from_state_dict(found.state, image_size, source), source)
    if model in PUBLISHED:
        return Loaded(from_torchvision(_published(model), image_size), f"{model}, published by torchvision")
    if path.suffix or len(path.parts) > len(Path.cwd().parts) + 1:
        raise NotFound(f"there is no weights file {path}: give one, or a name ({', '.join(PUBLISHED)}).")
    raise unknown_name("model: no file, and no published network", model, PUBLISHED)


def _published(name: str) -> "DenseNet":
    models = import_package("torchvision.models", "torchvision")
    try:
        found: DenseNet = models.get_model(name, weights="DEFAULT", progress=False)
    except Exception as error:  # URLError, OSError, RuntimeError of a broken download, ...
        raise NotFound(
            f"the weights of {name} are not on this machine and could not be downloaded ({error}): give a file of them."
        ) from error
    return found
