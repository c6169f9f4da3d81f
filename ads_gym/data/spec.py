"""Which data a task has and how it is divided: a small record that JSON holds. Imports neither numpy nor torch."""

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from ads_gym.errors import DamagedFile, InvalidValue, unknown_name

SOURCES = ("digits", "fashion-mnist", "cifar10", "cifar100", "svhn")


class Split(StrEnum):
    """What images are used for."""

    TRAIN = "train"  # trains and calibrates
    VALID = "valid"  # rewards and chooses
    TEST = "test"  # read once, at the end

    @classmethod
    def _missing_(cls, value: object) -> "Split":
        raise unknown_name("split", value, list(cls))


@dataclass(frozen=True)
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

    source: str
    train: int | None
    valid: int
    test: int | None
    calibration: int = 500
    seed: int = 0
    size: int | None = None
    stratify: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise InvalidValue(f"a data source is a name or a path, got {self.source!r}.")
        if not isinstance(self.stratify, bool):
            raise InvalidValue(f"stratify of a data spec must be true or false, got {self.stratify!r}.")
        least = {"train": 1, "valid": 1, "test": 1, "calibration": 2, "seed": 0, "size": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is None and name in {"train", "test", "size"}:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value < 2**32:
                raise InvalidValue(f"{name} of a data spec must be a whole number of at least {low}, got {value!r}.")

    @property
    def path(self) -> Path | None:
        """Where custom data are; None for a named source."""
        return None if self.source in SOURCES else Path(self.source)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "DataSpec":
        """The inverse of `to_dict`.

        Raises:
            DamagedFile: not what `to_dict` writes.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) | {"stratify"} != names:
            got = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise DamagedFile(f"a data spec has the entries {sorted(names)}, got {got}.")
        try:
            return cls(**values)
        except InvalidValue as error:
            raise DamagedFile(f"this data spec cannot be used: {error}") from error
