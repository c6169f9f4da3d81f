"""The network and the recipe that a data set gets where nothing else is asked for. Imports no torch."""

from dataclasses import dataclass

from ads_gym.architecture import Stem


@dataclass(frozen=True)
class Usual:
    """What `ads-gym train-supernet` takes for what it is not told; fields as in `DenseNetConfig` and `Recipe`."""

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
_DENSENET_40 = Usual(blocks=(12, 12, 12), growth=12, epochs=100, shift=4, flip=True)

USUAL = {
    "digits": Usual(growth=4, stem_channels=8),  # as shipped
    "fashion-mnist": Usual(stem=Stem.CONV3_STRIDE2, epochs=8),
    "cifar10": _DENSENET_40,
    "cifar100": _DENSENET_40,
    "svhn": Usual(blocks=(12, 12, 12), growth=12, shift=2),
}


def usual(source: str, image_shape: tuple[int, int, int]) -> Usual:
    """The usual choice for a data set.

    Args:
        source: a name, or the path of a user's own data, which get a small network behind a stem for their size.
        image_shape: (channels, height, width), pixels.
    """
    if source in USUAL:
        return USUAL[source]
    shorter = min(image_shape[1:])
    stem = Stem.CONV3 if shorter < 24 else Stem.CONV3_STRIDE2 if shorter < 96 else Stem.CONV7_POOL
    return Usual(stem=stem)
