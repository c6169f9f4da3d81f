"""Presets: data, network and training recipe of the tasks that have names; published networks.

Imports no torch.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from ads_gym.architecture import Stem
from ads_gym.errors import unknown_name


@dataclass(frozen=True)
class Preset:
    """Default values of the options of `ads-gym train-supernet`; fields as in `DenseNetConfig` and `Recipe`."""

    source: str = ""  # a named data set
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
    table: bool = False  # whether all architectures are scored too


# The DenseNet-40 of the DenseNet paper; its 300 epochs are more than a supernet needs to rank masks.
_DIGITS = Preset("digits", growth=4, stem_channels=8)  # as shipped
_FASHION = Preset("fashion-mnist", stem=Stem.CONV3_STRIDE2, epochs=8)
_DENSENET_40 = Preset("cifar10", blocks=(12, 12, 12), growth=12, epochs=100, shift=4, flip=True)

_IMAGENET: dict[str, Any] = {
    "growth": 32,
    "stem_channels": 64,
    "stem": Stem.CONV7_POOL,
    "bottleneck": True,
    "compression": 0.5,
}

PRESETS = {
    "digits": _DIGITS,
    "digits-deep": replace(_DIGITS, blocks=(12, 12, 12)),
    "digits-bottleneck": replace(_DIGITS, bottleneck=True, compression=0.5),
    "digits-table": replace(_DIGITS, blocks=(5, 4), table=True),
    "fashion-mnist": _FASHION,
    "fashion-mnist-deep": replace(_FASHION, blocks=(12, 12, 12)),
    "cifar10": _DENSENET_40,
    "cifar100": replace(_DENSENET_40, source="cifar100"),
    "svhn": Preset("svhn", blocks=(12, 12, 12), growth=12, shift=2),
}


# By `--network`: those of torchvision's, and the DenseNet-40 of the paper. Fields as in `DenseNetConfig`.
NETWORKS: dict[str, dict[str, Any]] = {
    "densenet40": {"blocks": (12, 12, 12), "growth": 12, "stem_channels": 16, "stem": Stem.CONV3},
    "densenet121": _IMAGENET | {"blocks": (6, 12, 24, 16)},
    "densenet161": _IMAGENET | {"blocks": (6, 12, 36, 24), "growth": 48, "stem_channels": 96},
    "densenet169": _IMAGENET | {"blocks": (6, 12, 32, 32)},
    "densenet201": _IMAGENET | {"blocks": (6, 12, 48, 32)},
}


def split_name(name: str) -> tuple[str, int | None]:
    """The preset and the seed that a task's name says: ("digits", 3) of "digits@3"; None: it says no seed."""
    found = re.fullmatch(r"([^@]+)@(0|[1-9][0-9]{0,8})", name)
    return (found[1], int(found[2])) if found else (name, None)


def is_preset(name: str) -> bool:
    """Whether `ads-gym train-supernet --task NAME` makes a task of this name."""
    return split_name(name)[0] in PRESETS


def with_network(preset: Preset, name: str) -> Preset:
    """A preset with the network of a name.

    Raises:
        UnknownName: no such network.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return replace(preset, **{"bottleneck": False, "compression": 1.0} | NETWORKS[name])


def find_preset(source: str, image_shape: tuple[int, int, int]) -> Preset:
    """The preset of a task.

    Args:
        source: its name, or the path of custom data, which get a small network behind a stem for their size.
        image_shape: (channels, height, width), pixels.
    """
    if is_preset(source):
        return PRESETS[split_name(source)[0]]
    shorter = min(image_shape[1:])
    stem = Stem.CONV3 if shorter < 24 else Stem.CONV3_STRIDE2 if shorter < 96 else Stem.CONV7_POOL
    return Preset(stem=stem)
