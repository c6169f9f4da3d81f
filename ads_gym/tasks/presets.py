"""Presets: the network and the training recipe of each data set, for options that are not given. Imports no torch."""

from dataclasses import dataclass

from ads_gym.architecture import Stem


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


# The DenseNet-40 of the DenseNet paper; its 300 epochs are more than a supernet needs to rank masks.
_DENSENET_40 = Preset(blocks=(12, 12, 12), growth=12, epochs=100, shift=4, flip=True)

PRESETS = {
    "digits": Preset(growth=4, stem_channels=8),  # as shipped
    "fashion-mnist": Preset(stem=Stem.CONV3_STRIDE2, epochs=8),
    "cifar10": _DENSENET_40,
    "cifar100": _DENSENET_40,
    "svhn": Preset(blocks=(12, 12, 12), growth=12, shift=2),
}


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
