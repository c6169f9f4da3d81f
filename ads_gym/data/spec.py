"""Which data a task has and how it is divided: a small record. Imports no torch."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ads_gym.choices import Choice
from ads_gym.limits import MAX_IMAGES
from ads_gym.records import Name, Pixels, Seed, record

SOURCES = ("digits", "fashion-mnist", "cifar10", "cifar100", "svhn")


class Split(Choice, what="split"):
    """What images are used for."""

    TRAIN = "train"  # trains and calibrates
    VALID = "valid"  # rewards and chooses
    TEST = "test"  # read once, at the end


Images = Annotated[int, Field(ge=1, le=MAX_IMAGES)]


@record
class DataSpec:
    """Data and its splits: equal specs of equal data give equal splits, on every machine.

    Args:
        source: a name among `SOURCES`, or the path of an .npz file or of a folder of class folders.
        train: images in TRAIN; None = all that VALID and TEST leave.
        valid: images in VALID.
        test: images in TEST; None = all of the source's own test split.
        calibration: images of TRAIN on which BatchNorm statistics are estimated.
        seed: of the division.
        size: pixels; images are resized to size x size, whatever their shape. None = as they are.
        stratify: whether VALID, TEST and TRAIN are divided class by class, for custom data. `default_spec` says so;
            specs stored by older versions do not, and keep their splits.

    Raises:
        InvalidValue: a number out of range.
    """

    source: Name
    train: Images | None
    valid: Images
    test: Images | None
    calibration: Annotated[int, Field(ge=2, le=MAX_IMAGES)] = 500
    seed: Seed = 0
    size: Pixels | None = None
    stratify: bool = False

    @property
    def path(self) -> Path | None:
        """Where custom data are; None for a named source."""
        return None if self.source in SOURCES else Path(self.source)
