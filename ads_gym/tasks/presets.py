"""Presets: the network and the training recipe of each data set, for options that are not given; published networks.

Imports no torch.
"""

from dataclasses import dataclass, replace
from typing import Any

from ads_gym.architecture import Stem
from ads_gym.errors import unknown_name


@dataclass(frozen=True)
class Preset:
    """Default values of the options of `ads-gym train-supernet`; fields as in `DenseNetConfig` and `Recipe`."""

    blocks: tuple[int, ...] = (6, 6, 6)
    growth: int = 8
    stem_channels: int = 16
    stem: Stem = Stem.CONV3
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 0.1
    shift: int = 1  # pixels
    flip: bool = False
    bottleneck: bool = False
    compression: float = 1.0


# The DenseNet-40 of the DenseNet paper; its 300 epochs are more than a supernet needs to rank masks.
_DENSENET_40 = Preset(blocks=(12, 12, 12), growth=12, epochs=100, shift=4, flip=True)

_IMAGENET: dict[str, Any] = {
    "growth": 32,
    "stem_channels": 64,
    "stem": Stem.CONV7_POOL,
    "bottleneck": True,
    "compression": 0.5,
}

PRESETS = {
    "digits": Preset(growth=4, stem_channels=8),  # as shipped
    "fashion-mnist": Preset(stem=Stem.CONV3_STRIDE2, epochs=8),
    "cifar10": _DENSENET_40,
    "cifar100": _DENSENET_40,
    "svhn": Preset(blocks=(12, 12, 12), growth=12, shift=2),
}


# By `--network`: those of torchvision's, and the DenseNet-40 of the paper. Fields as in `DenseNetConfig`.
NETWORKS: dict[str, dict[str, Any]] = {
    "densenet40": {"blocks": (12, 12, 12), "growth": 12, "stem_channels": 16, "stem": Stem.CONV3},
    "densenet121": _IMAGENET | {"blocks": (6, 12, 24, 16)},
    "densenet161": _IMAGENET | {"blocks": (6, 12, 36, 24), "growth": 48, "stem_channels": 96},
    "densenet169": _IMAGENET | {"blocks": (6, 12, 32, 32)},
    "densenet201": _IMAGENET | {"blocks": (6, 12, 48, 32)},
}


def with_network(preset: Preset, name: str) -> Preset:
    """A preset with the network of a name.

    Raises:
        UnknownName: no such network.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return replace(preset, **{"bottleneck": False, "compression": 1.0} | NETWORKS[name])


def find_preset(source: str, image_shape: tuple[int, int, int]) -> Preset:
    """The preset of a data set.

    Args:
        source: a name, or the path of custom data, which get a small network behind a stem for their size.
        image_shape: (channels, height, width), pixels.
    """
    if source in PRESETS:
        return PRESETS[source]
    shorter = min(image_shape[1:])
    stem = Stem.CONV3 if shorter < 24 else Stem.CONV3_STRIDE2 if shorter < 96 else Stem.CONV7_POOL
    return Preset(stem=stem)
